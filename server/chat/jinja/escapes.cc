#include "server/chat/jinja/escapes.h"

#include "absl/strings/str_format.h"
#include "engine/base/result.h"
#include "server/chat/jinja/unicode.h"

namespace hysparse::jinja {
namespace {

// Reads exactly `count` hexadecimal digits at *at; -1 when they are not there.
int64_t ReadHex(std::string_view s, size_t* at, int count) {
  int64_t value = 0;
  for (int i = 0; i < count; ++i, ++*at) {
    if (*at >= s.size()) return -1;
    const char c = s[*at];
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

absl::Status AppendNumeric(char escape, std::string_view body, size_t* at, std::string* out) {
  const int64_t value = ReadHex(body, at, escape == 'x' ? 2 : escape == 'u' ? 4 : 8);
  if (value < 0) return absl::InvalidArgumentError("a \\x, \\u or \\U escape is cut short");
  if (value > 0x10ffff) return absl::InvalidArgumentError("an escape names no Unicode character");
  if (value >= 0xd800 && value < 0xe000) return absl::InvalidArgumentError("an escape names half a surrogate pair");
  AppendUtf8(static_cast<char32_t>(value), out);
  return absl::OkStatus();
}

char SimpleEscape(char c) {
  switch (c) {
    case '\\':
      return '\\';
    case '\'':
      return '\'';
    case '"':
      return '"';
    case 'a':
      return '\a';
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    case 'v':
      return '\v';
    default:
      return '\0';
  }
}

}  // namespace

absl::StatusOr<std::string> Unescape(std::string_view body) {
  std::string out;
  for (size_t i = 0; i < body.size();) {
    if (body[i] != '\\' || i + 1 >= body.size()) {
      out += body[i++];
      continue;
    }
    const char c = body[i + 1];
    i += 2;
    if (c == '\n') continue;
    if (c == 'N') return absl::InvalidArgumentError("\\N{…} escapes are not supported");
    if (c == 'x' || c == 'u' || c == 'U') {
      HYSPARSE_RETURN_IF_ERROR(AppendNumeric(c, body, &i, &out));
    } else if (c >= '0' && c <= '7') {
      char32_t value = c - '0';
      for (int digits = 1; digits < 3 && i < body.size() && body[i] >= '0' && body[i] <= '7'; ++digits) {
        value = value * 8 + (body[i++] - '0');
      }
      AppendUtf8(value, &out);
    } else if (const char simple = SimpleEscape(c); simple != '\0') {
      out += simple;
    } else {
      out += '\\';
      out += c;
    }
  }
  return out;
}

void AppendRepr(const Text& text, bool quotes_trusted, Text* out) {
  const std::string& s = text.str();
  const char quote = s.find('\'') != std::string::npos && s.find('"') == std::string::npos ? '"' : '\'';
  out->Append(std::string_view(&quote, 1), quotes_trusted);
  size_t done = 0;  // bytes before it are written
  for (size_t i = 0; i < s.size();) {
    const CodePoint c = DecodeAt(s, i);
    std::string escaped;
    if (c.value == static_cast<char32_t>(quote) || c.value == '\\') {
      escaped = {'\\', s[i]};
    } else if (c.value == '\n' || c.value == '\r' || c.value == '\t') {
      escaped = c.value == '\n' ? "\\n" : c.value == '\r' ? "\\r" : "\\t";
    } else if (!IsPrintable(c.value)) {
      const auto value = static_cast<uint32_t>(c.value);
      escaped = value < 0x100     ? absl::StrFormat("\\x%02x", value)
                : value < 0x10000 ? absl::StrFormat("\\u%04x", value)
                                  : absl::StrFormat("\\U%08x", value);
    }
    if (!escaped.empty()) {
      out->Append(text, done, i);
      out->Append(escaped, text.TrustedAt(i));
      done = i + c.size;
    }
    i += c.size;
  }
  out->Append(text, done, s.size());
  out->Append(std::string_view(&quote, 1), quotes_trusted);
}

namespace {

std::string JsonEscape(char32_t c, bool ensure_ascii) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\f':
      return "\\f";
    case '\b':
      return "\\b";
    default:
      break;
  }
  const auto value = static_cast<uint32_t>(c);
  if (value < 0x20) return absl::StrFormat("\\u%04x", value);
  if (!ensure_ascii || value < 0x7f) return "";
  if (value < 0x10000) return absl::StrFormat("\\u%04x", value);
  return absl::StrFormat("\\u%04x\\u%04x", 0xd800 + ((value - 0x10000) >> 10), 0xdc00 + ((value - 0x10000) & 0x3ff));
}

}  // namespace

void AppendJsonString(const Text& text, bool ensure_ascii, bool quotes_trusted, Text* out) {
  const std::string& s = text.str();
  out->Append("\"", quotes_trusted);
  size_t done = 0;
  for (size_t i = 0; i < s.size();) {
    const CodePoint c = DecodeAt(s, i);
    const std::string escaped = JsonEscape(c.value, ensure_ascii);
    if (!escaped.empty()) {
      out->Append(text, done, i);
      out->Append(escaped, text.TrustedAt(i));
      done = i + c.size;
    }
    i += c.size;
  }
  out->Append(text, done, s.size());
  out->Append("\"", quotes_trusted);
}

}  // namespace hysparse::jinja
