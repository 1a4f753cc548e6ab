// ServerOptions: everything the front ends are told at start; filled in by config (flags, environment, YAML), read by
// any thread, never changed afterwards. Bytes, seconds and counts as named.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace hysparse {

struct ServerOptions {
  std::string host = "127.0.0.1";  // an address; "0.0.0.0" and "::" for all
  uint16_t port = 8000;            // 0: any free one; App::port() tells which

  std::vector<std::string> api_keys;      // empty: open. With keys every route but the probes needs one.
  std::vector<std::string> cors_origins;  // exact origins, or "*"; empty: no CORS headers at all
  std::string tls_certificate, tls_key;   // PEM files (certificate chain first); both or neither

  bool strict = false;  // answer 400 to unknown request fields; otherwise they are ignored and counted

  int io_threads = 1;      // sockets and bytes
  int worker_threads = 2;  // JSON, templates, tokenising, detokenising

  size_t max_header_bytes = 8 << 10;          // request line and header
  size_t max_body_bytes = 16 << 20;           // beyond: 413
  int max_connections = 4096;                 // beyond: 503 and closed
  size_t max_stream_backlog_bytes = 1 << 20;  // bytes a stream's reader may lag behind; beyond: cancelled

  std::chrono::milliseconds header_timeout{10'000};     // from the first byte of a request to the end of its header
  std::chrono::milliseconds body_timeout{60'000};       // from the header's end to the body's
  std::chrono::milliseconds idle_timeout{75'000};       // between requests of a connection
  std::chrono::milliseconds write_timeout{30'000};      // without the client taking a byte: cancelled and closed
  std::chrono::milliseconds keepalive_interval{5'000};  // ": " comments of a stream that has nothing to say yet

  std::chrono::milliseconds stall_timeout{120'000};  // a busy engine without a step: /livez fails
  std::chrono::milliseconds drain_timeout{45'000};   // Drain: how long running requests may take

  int max_choices = 128;      // n, best_of and prompts × n of one request
  int max_stop_strings = 64;  // of at most 1024 bytes each
  bool log_requests = true;   // the access log: one line a request, never the prompt
  bool log_json = true;       // its lines as JSON objects; false: as text, for terminals
};

}  // namespace hysparse
