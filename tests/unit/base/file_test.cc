#include "engine/base/file.h"

#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace hysparse {
namespace {

std::string Write(const std::string& name, const std::string& text) {
  const std::string path = testing::TempDir() + name;
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

TEST(ReadFile, ReturnsTheBytes) {
  const std::string text("a\0b\n", 4);
  EXPECT_EQ(*ReadFile(Write("bytes", text)), text);
}

TEST(ReadFile, NamesAMissingFile) {
  const auto text = ReadFile("/nowhere/config.json");
  EXPECT_EQ(text.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(text.status().message()), testing::HasSubstr("/nowhere/config.json"));
}

TEST(ReadFile, RefusesWhatIsTooLargeOrNoFile) {
  EXPECT_EQ(ReadFile(Write("large", "12345"), 4).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(ReadFile("/tmp").ok());
}

TEST(MappedFile, MapsAndRefusesEmpty) {
  auto file = MappedFile::Open(Write("mapped", "weights"));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->bytes().size(), 7u);
  EXPECT_EQ(static_cast<char>((*file)->bytes()[0]), 'w');
  EXPECT_FALSE(MappedFile::Open(Write("empty", "")).ok());
}

}  // namespace
}  // namespace hysparse
