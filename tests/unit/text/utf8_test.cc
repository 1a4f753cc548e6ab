#include "engine/text/utf8.h"

#include <gtest/gtest.h>

#include "engine/text/byte_alphabet.h"
#include "engine/text/unicode.h"

namespace hysparse {
namespace {

TEST(Utf8, AcceptsTheBoundariesOfEveryLength) {
  for (const std::string_view text : {"", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF",
                                      "\xEE\x80\x80", "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_TRUE(IsValidUtf8(text)) << text;
  }
  EXPECT_TRUE(IsValidUtf8(std::string_view("a\0b", 3)));
}

TEST(Utf8, RejectsOverlongSurrogateTooHighAndBrokenForms) {
  for (const std::string_view text :
       {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC2", "\xE0\x9F\xBF", "\xE2\x82", "\xED\xA0\x80", "\xED\xBF\xBF",
        "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "12345678\xC3", "\xC3(", "\xF0\x9F\x98"}) {
    EXPECT_FALSE(IsValidUtf8(text)) << text;
  }
}

TEST(Utf8, DecodesWhatItAppendsInBothDirections) {
  for (const char32_t c : {0x0u, 0x7Fu, 0x80u, 0x7FFu, 0x800u, 0xD7FFu, 0xE000u, 0xFFFFu, 0x10000u, 0x10FFFFu}) {
    std::string text = "a";
    AppendUtf8(c, text);
    size_t forward = 1, backward = text.size();
    EXPECT_EQ(DecodeUtf8(text, forward), c);
    EXPECT_EQ(forward, text.size());
    EXPECT_EQ(DecodeUtf8Before(text, backward), c);
    EXPECT_EQ(backward, 1u);
  }
}

std::string Stream(const std::vector<std::string>& parts) {
  Utf8Stream stream;
  std::string out;
  for (const std::string& part : parts) {
    stream.Append(part, out);
    EXPECT_TRUE(IsValidUtf8(out));
  }
  stream.Finish(out);
  return out;
}

TEST(Utf8Stream, HoldsACharacterBackUntilItIsComplete) {
  Utf8Stream stream;
  std::string out;
  stream.Append("a\xF0\x9F", out);
  EXPECT_EQ(out, "a");
  stream.Append("\x98", out);
  EXPECT_EQ(out, "a");
  stream.Append("\x80z", out);
  EXPECT_EQ(out, "a\xF0\x9F\x98\x80z");
}

TEST(Utf8Stream, OneReplacementPerMaximalPart) {
  EXPECT_EQ(Stream({"\xF0\x9F\x98"}), "\uFFFD");
  EXPECT_EQ(Stream({"\xF0\x9F", "A"}), "\uFFFDA");
  EXPECT_EQ(Stream({"\xED", "\xA0", "\x80"}), "\uFFFD\uFFFD\uFFFD");  // a surrogate: no byte continues another
  EXPECT_EQ(Stream({"\xC0\x80"}), "\uFFFD\uFFFD");
  EXPECT_EQ(Stream({"\xE2\x82", "\xE2\x82\xAC"}), "\uFFFD€");
  EXPECT_EQ(Stream({"\x80\x80"}), "\uFFFD\uFFFD");
}

TEST(ByteAlphabet, IsABijectionWithGpt2sAnchors) {
  for (int byte = 0; byte < 256; ++byte) {
    std::string back;
    ASSERT_TRUE(FromByteAlphabet(ByteCharacter(static_cast<unsigned char>(byte)), back));
    ASSERT_EQ(back, std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(ToByteAlphabet(" \n\xAD!"), "ĠĊŃ!");
  std::string bytes = "kept";
  EXPECT_FALSE(FromByteAlphabet("a b", bytes));  // a space is not in the alphabet
  EXPECT_EQ(bytes, "kept");
}

TEST(Unicode, ClassesAtTheirEdges) {
  EXPECT_TRUE(IsWhitespace(0x85) && IsWhitespace(0x3000) && !IsWhitespace(0x200B) && !IsWhitespace(0x180E));
  EXPECT_TRUE(IsNumeric(U'²') && IsNumeric(U'Ⅷ') && IsNumeric(0x10D40) && !IsNumeric(U'a') && !IsNumeric(0x4E00));
  EXPECT_TRUE(IsPunctuation(U'$') && IsPunctuation(U'«') && !IsPunctuation(U'€') && !IsPunctuation(0x61D));
  EXPECT_TRUE(IsWord(U'_') && IsWord(0x301) && IsWord(0x200D) && IsWord(U'Ⓐ') && !IsWord(U'-') && !IsWord(U'²'));
}

}  // namespace
}  // namespace hysparse
