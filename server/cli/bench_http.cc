#include "server/cli/bench_http.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"

namespace hysparse {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

std::string Request(const std::string& model, const std::vector<int32_t>& prompt, int32_t output) {
  const nlohmann::json body = {{"model", model},   {"prompt", prompt}, {"max_tokens", output},
                               {"temperature", 0}, {"stream", true},   {"ignore_eos", true}};
  const std::string text = body.dump();
  return absl::StrCat("POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n",
                      "Content-Type: application/json\r\nContent-Length: ", text.size(), "\r\n\r\n", text);
}

size_t CountEvents(const std::string& text) {
  size_t count = 0;
  for (size_t at = text.find("data: {"); at != std::string::npos; at = text.find("data: {", at + 1)) ++count;
  return count;
}

}  // namespace

absl::StatusOr<double> HttpInterTokenSeconds(uint16_t port, const std::string& model,
                                             const std::vector<int32_t>& prompt, int32_t output) {
  boost::system::error_code error;
  asio::io_context io;
  tcp::socket socket(io);
  socket.connect({asio::ip::address_v4::loopback(), port}, error);
  if (!error) socket.set_option(tcp::no_delay(true), error);
  if (!error) asio::write(socket, asio::buffer(Request(model, prompt, output)), error);
  std::string answer;
  Clock::time_point first{}, last{};
  char buffer[16384];
  while (!error) {
    const size_t size = socket.read_some(asio::buffer(buffer), error);
    const Clock::time_point now = Clock::now();
    const std::string piece(buffer, size);
    answer += piece;
    if (piece.find("data: {") == std::string::npos) continue;
    if (first == Clock::time_point{}) first = now;
    last = now;
  }
  if (error != asio::error::eof) return absl::UnavailableError(absl::StrCat("bench's HTTP client: ", error.message()));
  if (answer.find("data: [DONE]") == std::string::npos || CountEvents(answer) < 2) {
    return absl::InternalError(absl::StrCat("bench's HTTP client got: ", answer.substr(0, 300)));
  }
  return std::chrono::duration<double>(last - first).count() / (output - 1);
}

}  // namespace hysparse
