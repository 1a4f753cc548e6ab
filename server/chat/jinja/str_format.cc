#include "server/chat/jinja/str_format.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "engine/base/result.h"
#include "server/chat/jinja/cat.h"
#include "server/chat/jinja/format.h"
#include "server/chat/jinja/operators.h"
#include "server/chat/jinja/print.h"
#include "server/chat/jinja/unicode.h"

namespace hysparse::jinja {
namespace {

constexpr int64_t kMaxWidth = 1 << 20;

// Digits at *at, at most kMaxWidth.
absl::StatusOr<int64_t> ReadNumber(std::string_view s, size_t* at) {
  int64_t number = 0;
  for (; *at < s.size() && absl::ascii_isdigit(s[*at]); ++*at) {
    number = number * 10 + (s[*at] - '0');
    if (number > kMaxWidth) return Error("Too many decimal digits in format string");
  }
  return number;
}

bool IsAlign(char c) { return c == '<' || c == '>' || c == '^' || c == '='; }

// [[fill]align][sign][#][0][width][,][.precision][type]
absl::StatusOr<FormatSpec> ParseSpec(std::string_view s) {
  FormatSpec spec;
  size_t at = 0;
  const size_t first = s.empty() ? 0 : DecodeAt(s, 0).size;
  if (first < s.size() && IsAlign(s[first])) {
    spec.fill = s.substr(0, first);
    spec.align = s[first];
    at = first + 1;
  } else if (!s.empty() && IsAlign(s[0])) {
    spec.align = s[at++];
  }
  if (at < s.size() && (s[at] == '+' || s[at] == '-' || s[at] == ' ')) spec.sign = s[at++];
  if (at < s.size() && s[at] == '#') spec.alternate = ++at > 0;
  if (at < s.size() && s[at] == '0') {
    ++at;
    if (spec.align == '\0') {
      spec.fill = "0";
      spec.align = '=';
    }
  }
  HYSPARSE_ASSIGN_OR_RETURN(spec.width, ReadNumber(s, &at));
  if (at < s.size() && s[at] == ',') spec.comma = ++at > 0;
  if (at < s.size() && s[at] == '.') {
    ++at;
    if (at >= s.size() || !absl::ascii_isdigit(s[at])) return Error("Format specifier missing precision");
    HYSPARSE_ASSIGN_OR_RETURN(spec.precision, ReadNumber(s, &at));
  }
  if (at < s.size()) spec.type = s[at++];
  if (at < s.size()) return Error("Invalid format specifier");
  return spec;
}

absl::StatusOr<Text> FormatValue(Heap& heap, const Value& value, std::string_view spec_text, bool trusted) {
  if (spec_text.empty()) return ToText(heap, value);
  HYSPARSE_ASSIGN_OR_RETURN(FormatSpec spec, ParseSpec(spec_text));
  HYSPARSE_RETURN_IF_ERROR(heap.StepBytes(static_cast<size_t>(spec.width) * 4));
  if (value.string()) {
    if (spec.type != '\0' && spec.type != 's') return Error("Unknown format code for object of type 'str'");
    if (spec.align == '=' || spec.sign != '\0' || spec.comma) return Error("not allowed in string format specifier");
    Text text = value.text();
    if (spec.precision >= 0) text = text.Slice(0, OffsetOf(text.str(), static_cast<size_t>(spec.precision)));
    return Pad(std::move(text), spec, '<');
  }
  if (!value.number() || (value.is(Kind::kBool) && spec.type == '\0' && spec_text.empty())) {
    return Error(Cat("unsupported format string passed to ", TypeName(value), ".__format__"));
  }
  if (spec.precision > 300 || (spec.precision >= 0 && value.integral() && spec.type == '\0')) {
    return Error("Precision not allowed in integer format specifier");
  }
  HYSPARSE_ASSIGN_OR_RETURN(const std::string digits, FormatNumber(value, spec));
  if (spec.align == '=') spec.align = '>';
  return Pad(Text(digits, value.trusted() && trusted), spec, '>');
}

class BraceFormatter {
 public:
  BraceFormatter(Evaluator& evaluator, const Text& format, const Args& args)
      : evaluator_(evaluator), format_(format), s_(format.str()), args_(args) {}

  absl::StatusOr<Text> Run() {
    while (at_ < s_.size()) {
      const size_t brace = std::min(s_.find_first_of("{}", at_), s_.size());
      out_.Append(format_, at_, brace);
      at_ = brace;
      if (brace == s_.size()) break;
      if (brace + 1 < s_.size() && s_[brace + 1] == s_[brace]) {
        out_.Append(format_, brace, brace + 1);
        at_ += 2;
      } else if (s_[brace] == '}') {
        return Error("Single '}' encountered in format string");
      } else {
        HYSPARSE_RETURN_IF_ERROR(Field());
      }
      HYSPARSE_RETURN_IF_ERROR(evaluator_.heap().Reserve(2 * out_.bytes()));
    }
    return std::move(out_);
  }

 private:
  absl::Status Field() {
    const bool trusted = format_.TrustedAt(at_);
    const size_t close = s_.find('}', at_);
    if (close == std::string::npos) return Error("expected '}' before end of string");
    std::string_view field = std::string_view(s_).substr(at_ + 1, close - at_ - 1);
    if (field.find('{') != std::string_view::npos) return Error("nested replacement fields are not supported");
    at_ = close + 1;
    std::string_view spec;
    if (const size_t colon = field.find(':'); colon != std::string_view::npos) {
      spec = field.substr(colon + 1);
      field = field.substr(0, colon);
    }
    char conversion = '\0';
    if (const size_t mark = field.find('!'); mark != std::string_view::npos) {
      if (mark + 2 != field.size()) return Error("expected one conversion character behind '!'");
      conversion = field[mark + 1];
      field = field.substr(0, mark);
    }
    HYSPARSE_ASSIGN_OR_RETURN(Value value, Lookup(field));
    if (conversion != '\0') {
      HYSPARSE_ASSIGN_OR_RETURN(value, Convert(value, conversion));
    }
    HYSPARSE_ASSIGN_OR_RETURN(const Text text, FormatValue(evaluator_.heap(), value, spec, trusted));
    out_.Append(text);
    return absl::OkStatus();
  }

  absl::StatusOr<Value> Convert(const Value& value, char conversion) {
    Text text;
    if (conversion == 's') {
      HYSPARSE_RETURN_IF_ERROR(AppendStr(evaluator_.heap(), value, &text));
    } else if (conversion == 'r') {
      HYSPARSE_RETURN_IF_ERROR(AppendRepr(evaluator_.heap(), value, &text));
    } else {
      return Error("Unknown conversion specifier");
    }
    return evaluator_.NewString(std::move(text));
  }

  absl::StatusOr<Value> First(std::string_view name) {
    int64_t number = 0;
    const bool digits = !name.empty() && name.find_first_not_of("0123456789") == std::string_view::npos;
    if (!name.empty() && !digits) {
      for (const auto& [known, value] : args_.named) {
        if (known == name) return value;
      }
      return Error(Cat("KeyError: '", name, "'"));
    }
    if (name.empty() ? counted_ == Counting::kByNumber : counted_ == Counting::kInOrder) {
      return Error("cannot switch between manual and automatic field numbering");
    }
    counted_ = name.empty() ? Counting::kInOrder : Counting::kByNumber;
    if (name.empty()) {
      number = next_++;
    } else if (!absl::SimpleAtoi(std::string(name), &number)) {
      return Error("Too many decimal digits in format string");
    }
    if (number >= static_cast<int64_t>(args_.positional.size())) {
      return Error("Replacement index out of range for positional args tuple");
    }
    return args_.positional[static_cast<size_t>(number)];
  }

  // name, number or nothing, then any of .attribute and [key].
  absl::StatusOr<Value> Lookup(std::string_view field) {
    const size_t end = std::min(field.find_first_of(".["), field.size());
    HYSPARSE_ASSIGN_OR_RETURN(Value value, First(field.substr(0, end)));
    for (size_t at = end; at < field.size();) {
      const bool attribute = field[at] == '.';
      const size_t stop = attribute ? std::min(field.find_first_of(".[", at + 1), field.size()) : field.find(']', at);
      if (stop == std::string_view::npos) return Error("Missing ']' in format string");
      const std::string name(field.substr(at + 1, stop - at - 1));
      if (name.empty()) return Error("Empty attribute in format string");
      int64_t index = 0;
      if (attribute) {
        HYSPARSE_ASSIGN_OR_RETURN(value, evaluator_.GetAttribute(value, name));
      } else if (name.find_first_not_of("0123456789") == std::string::npos && absl::SimpleAtoi(name, &index)) {
        HYSPARSE_ASSIGN_OR_RETURN(value, evaluator_.GetItem(value, Value::OfInt(index)));
      } else {
        HYSPARSE_ASSIGN_OR_RETURN(const Value key, evaluator_.heap().NewString(name, true));
        HYSPARSE_ASSIGN_OR_RETURN(value, evaluator_.GetItem(value, key));
      }
      at = attribute ? stop : stop + 1;
      if (!attribute && at < field.size() && field[at] != '.' && field[at] != '[') {
        return Error("Only '.' or '[' may follow ']' in format field specifier");
      }
    }
    return value;
  }

  enum class Counting { kUnknown, kInOrder, kByNumber };

  Evaluator& evaluator_;
  const Text& format_;
  const std::string& s_;
  const Args& args_;
  Text out_;
  size_t at_ = 0;
  int64_t next_ = 0;
  Counting counted_ = Counting::kUnknown;
};

}  // namespace

absl::StatusOr<Text> FormatBraces(Evaluator& evaluator, const Text& format, const Args& args) {
  return BraceFormatter(evaluator, format, args).Run();
}

}  // namespace hysparse::jinja
