// Text: a string that knows which of its bytes the template (or the model's folder) wrote and which came from a client.
// Provenance survives every operation of the interpreter, so that the tokenizer can refuse to see special tokens in
// client text. Plain values, no shared state; UTF-8 throughout. `Text` is a string plus runs that cover it in order;
// two neighbouring runs always differ in trust.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hysparse::jinja {

class Text {
 public:
  struct Run {
    size_t end;  // byte offset just behind the run; the run begins where its predecessor ends
    bool trusted;
  };

  Text() = default;
  Text(std::string_view text, bool trusted) { Append(text, trusted); }

  void Append(std::string_view text, bool trusted);
  void Append(const Text& other) { Append(other, 0, other.size()); }
  void Append(const Text& other, size_t begin, size_t end);  // other's bytes [begin, end)

  Text Slice(size_t begin, size_t end) const;
  bool TrustedAt(size_t offset) const;  // of an empty text: true
  // True when every byte is trusted.
  bool trusted() const { return runs_.empty() || (runs_.size() == 1 && runs_[0].trusted); }

  const std::string& str() const { return text_; }
  size_t size() const { return text_.size(); }
  bool empty() const { return text_.empty(); }
  const std::vector<Run>& runs() const { return runs_; }
  size_t bytes() const { return text_.capacity() + runs_.capacity() * sizeof(Run); }

 private:
  size_t RunOf(size_t offset) const;

  std::string text_;
  std::vector<Run> runs_;
};

}  // namespace hysparse::jinja
