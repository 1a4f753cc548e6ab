#include "server/cli/bench_http.h"

#include <algorithm>
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

// An event of the stream, and the forward passes that were done by then.
struct Arrival {
  Clock::time_point at;
  int64_t forward_ns = 0, steps = 0;
};

}  // namespace

absl::StatusOr<double> HttpOverheadSeconds(uint16_t port, const std::string& model, const std::vector<int32_t>& prompt,
                                           int32_t output, const TimedRunner::Totals& totals) {
  boost::system::error_code error;
  asio::io_context io;
  tcp::socket socket(io);
  socket.connect({asio::ip::address_v4::loopback(), port}, error);
  if (!error) socket.set_option(tcp::no_delay(true), error);
  if (!error) asio::write(socket, asio::buffer(Request(model, prompt, output)), error);
  std::string answer;
  std::vector<Arrival> arrivals;
  char buffer[16384];
  while (!error) {
    const size_t size = socket.read_some(asio::buffer(buffer), error);
    answer.append(buffer, size);
    const bool event = std::string(buffer, size).find("data: {") != std::string::npos;
    if (event) arrivals.push_back({Clock::now(), totals.nanoseconds, totals.steps});
  }
  if (error != asio::error::eof) return absl::UnavailableError(absl::StrCat("bench's HTTP client: ", error.message()));
  if (answer.find("data: [DONE]") == std::string::npos || arrivals.size() < 2) {
    return absl::InternalError(absl::StrCat("bench's HTTP client got: ", answer.substr(0, 300)));
  }
  const Arrival &first = arrivals.front(), &last = arrivals.back();
  const double seconds = std::chrono::duration<double>(last.at - first.at).count();
  const double forward = static_cast<double>(last.forward_ns - first.forward_ns) * 1e-9;
  return seconds / (output - 1) - forward / static_cast<double>(std::max<int64_t>(1, last.steps - first.steps));
}

}  // namespace hysparse
