// The small parts: keys, drain gate, error table, metrics, health.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "server/auth.h"
#include "server/drain_gate.h"
#include "server/error_map.h"
#include "server/health.h"
#include "server/http_text.h"
#include "server/metrics.h"
#include "tests/unit/server/test_model.h"

namespace hysparse {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

TEST(Auth, AcceptsEachKeyAndNothingElse) {
  const Auth auth({"sk-one", "sk-two"});
  ASSERT_TRUE(auth.Authenticate("Bearer sk-one"));
  ASSERT_TRUE(auth.Authenticate("bearer  sk-two"));
  EXPECT_NE(*auth.Authenticate("Bearer sk-one"), *auth.Authenticate("Bearer sk-two"));
  EXPECT_THAT(*auth.Authenticate("Bearer sk-one"), Not(HasSubstr("sk-one")));
  for (const char* wrong :
       {"", "Bearer", "Bearer ", "sk-one", "Bearer sk-on", "Bearer sk-one2", "Basic sk-one", "Bearer sk-one "}) {
    EXPECT_FALSE(auth.Authenticate(wrong)) << wrong;
  }
}

TEST(Auth, IsOpenWithoutKeys) {
  EXPECT_EQ(Auth({}).Authenticate(""), "");
  EXPECT_EQ(Auth({}).Authenticate("Bearer anything"), "");
}

TEST(DrainGate, LetsNobodyInOnceClosedAndWaitsForThoseInside) {
  DrainGate gate;
  auto first = gate.Enter();
  auto second = gate.Enter();
  ASSERT_TRUE(first && second);
  EXPECT_EQ(gate.inside(), 2);
  gate.Close();
  EXPECT_FALSE(gate.Enter());
  first.reset();
  EXPECT_FALSE(gate.WaitEmpty(milliseconds(10)));
  std::thread leaver([pass = std::move(*second)]() mutable { DrainGate::Pass gone = std::move(pass); });
  second.reset();
  EXPECT_TRUE(gate.WaitEmpty(milliseconds(5000)));
  leaver.join();
}

TEST(ErrorMap, TableOfStatuses) {
  struct Row {
    absl::Status status;
    int http;
    const char *type, *code;
  };
  const Row rows[] = {
      {absl::InvalidArgumentError("m"), 400, "invalid_request_error", ""},
      {absl::UnimplementedError("m"), 400, "invalid_request_error", ""},
      {absl::UnauthenticatedError("m"), 401, "invalid_request_error", "invalid_api_key"},
      {ModelNotFound("m"), 404, "invalid_request_error", "model_not_found"},
      {absl::ResourceExhaustedError("m"), 429, "rate_limit_error", "rate_limit_exceeded"},
      {absl::InternalError("m"), 500, "server_error", ""},
      {absl::UnavailableError("m"), 503, "server_error", ""},
  };
  for (const Row& row : rows) {
    const ApiError error = ToApiError(row.status);
    EXPECT_EQ(error.http_status, row.http);
    EXPECT_EQ(error.type, row.type);
    EXPECT_EQ(error.code, row.code);
    EXPECT_EQ(error.retry_after_seconds > 0, row.http == 429 || row.http == 503);
  }
}

TEST(ErrorMap, ContextLengthKeepsTheWordsThatClientsSearchFor) {
  const ApiError with = ToApiError(ContextLengthExceeded("messages", 4097, 4000, 1000));
  EXPECT_EQ(
      with.message,
      "This model's maximum context length is 4097 tokens. However, you requested 5000 tokens (4000 in the messages, "
      "1000 in the completion). Please reduce the length of the messages or completion.");
  EXPECT_EQ(with.code, "context_length_exceeded");
  EXPECT_EQ(with.param, "messages");
  EXPECT_EQ(
      ToApiError(ContextLengthExceeded("prompt", 8, 9, 0)).message,
      "This model's maximum context length is 8 tokens. However, your prompt resulted in 9 tokens. Please reduce the "
      "length of the prompt.");
}

TEST(HttpText, RequestIdsOfClientsAreTakenOnlyWhenPlain) {
  EXPECT_EQ(RequestId("abc-DEF_1.2:3/4"), "abc-DEF_1.2:3/4");
  for (const std::string& bad :
       {std::string(), std::string("a b"), std::string("a\"b"), std::string(129, 'a'), std::string("\xff")}) {
    EXPECT_THAT(RequestId(bad), ::testing::StartsWith("req-"));
  }
  EXPECT_NE(RequestId(""), RequestId(""));
}

TEST(HttpText, DateIsOfTheFixedLength) {
  EXPECT_THAT(HttpDate(), ::testing::MatchesRegex("[A-Z][a-z][a-z], [0-9][0-9] [A-Z][a-z][a-z] [0-9]+ ..:..:.. GMT"));
}

TEST(Metrics, CountsAndShowsVllmsNames) {
  ModelSlot slot;
  Metrics metrics(slot);
  metrics.OnStep(40, 32, 3, 0.02);
  metrics.OnStep(3, 0, 3, 0.001);
  metrics.OnFirstToken(0.03);
  metrics.OnInterTokenLatency(0.004);
  metrics.OnInterTokenLatency(0.2);
  RequestTimes times;
  times.e2e_s = 1.2;
  times.decode_s = 0.9;
  times.prompt_tokens = 12;
  times.output_tokens = 4;
  metrics.OnFinished(times);
  metrics.CountFinished(FinishReason::kStop);
  metrics.CountFinished(FinishReason::kLength);
  metrics.CountFinished(FinishReason::kCancelled);
  metrics.CountHttp(200);
  metrics.CountHttp(404);
  const std::string text = metrics.Scrape();
  for (const char* line : {
           "# TYPE hysparse:prompt_tokens_total counter",
           "hysparse:prompt_tokens_total{model_name=\"\"} 32\n",
           "hysparse:generation_tokens_total{model_name=\"\"} 3\n",
           "hysparse:request_success_total{model_name=\"\",finished_reason=\"stop\"} 1\n",
           "hysparse:request_success_total{model_name=\"\",finished_reason=\"length\"} 1\n",
           "hysparse:request_success_total{model_name=\"\",finished_reason=\"abort\"} 1\n",
           "hysparse:http_responses_total{model_name=\"\",status=\"2xx\"} 1\n",
           "hysparse:http_responses_total{model_name=\"\",status=\"4xx\"} 1\n",
           "hysparse:time_to_first_token_seconds_bucket{model_name=\"\",le=\"0.02\"} 0\n",
           "hysparse:time_to_first_token_seconds_bucket{model_name=\"\",le=\"0.04\"} 1\n",
           "hysparse:time_to_first_token_seconds_bucket{model_name=\"\",le=\"+Inf\"} 1\n",
           "hysparse:inter_token_latency_seconds_count{model_name=\"\"} 2\n",
           "hysparse:e2e_request_latency_seconds_sum{model_name=\"\"} 1.2\n",
           "hysparse:request_time_per_output_token_seconds_count{model_name=\"\"} 1\n",
           "hysparse:request_prompt_tokens_bucket{model_name=\"\",le=\"20\"} 1\n",
           "hysparse:iteration_tokens_total_count{model_name=\"\"} 2\n",
           "hysparse:step_seconds_count{model_name=\"\",phase=\"prefill\"} 1\n",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  EXPECT_THAT(text, Not(HasSubstr("num_requests_running")));  // no model, no gauges
}

TEST(Metrics, GaugesAppearWithTheModel) {
  ModelSlot slot;
  Metrics metrics(slot);
  slot.Set(MakeTestModel(std::make_shared<Script>(), &metrics));
  const std::string text = metrics.Scrape();
  for (const char* line :
       {"hysparse:num_requests_running{model_name=\"org/tiny\"} 0\n",
        "hysparse:num_requests_waiting{model_name=\"org/tiny\"} 0\n",
        "hysparse:kv_cache_usage_perc{model_name=\"org/tiny\"} 0\n",
        "hysparse:cache_config_info{model_name=\"org/tiny\",block_size=\"64\",num_gpu_blocks=\"512\"} 1\n",
        "hysparse:kv_bytes{model_name=\"org/tiny\",class=\"global\",state=\"referenced\"} 0\n",
        "hysparse:kv_bytes{model_name=\"org/tiny\",class=\"unassigned\",state=\"free\"} 1048576\n",
        "hysparse:admissible_sessions{model_name=\"org/tiny\",context=\"512\"} 64\n",
        "hysparse:kv_residency_ratio{model_name=\"org/tiny\"} 0\n",
        "hysparse:prefix_cache_lookups_total{model_name=\"org/tiny\",result=\"off\"} 0\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  slot.Set(nullptr);
}

TEST(Health, FollowsLoadingServingAndDraining) {
  ModelSlot slot;
  DrainGate gate;
  Health health(slot, gate, milliseconds(1000));
  health.SetProgress(0.4);
  EXPECT_TRUE(health.Live().ok);
  EXPECT_FALSE(health.Ready().ok);
  EXPECT_FALSE(health.Started().ok);
  EXPECT_EQ(health.Started().status, "loading");
  EXPECT_DOUBLE_EQ(health.Started().progress, 0.4);
  slot.Set(MakeTestModel(std::make_shared<Script>()));
  EXPECT_TRUE(health.Live().ok && health.Ready().ok && health.Started().ok);
  gate.Close();
  EXPECT_TRUE(health.Live().ok && health.Started().ok);
  EXPECT_EQ(health.Ready().status, "draining");
  EXPECT_FALSE(health.Ready().ok);
}

TEST(Health, AHungStepIsNotLive) {
  struct Drop : OutputSink {
    void OnOutput(StepOutput) override {}
  };
  StepGate steps;
  const auto script = std::make_shared<Script>();
  script->before_step = [&] { steps.Wait(); };
  ModelSlot slot;
  DrainGate gate;
  slot.Set(MakeTestModel(script));
  Health health(slot, gate, milliseconds(50));
  EXPECT_TRUE(health.Live().ok);
  GenerateRequest request;
  request.id = "r";
  request.prompt = {1, 2, 3};
  ASSERT_TRUE(slot.Get()->engine->Submit(request, std::make_shared<Drop>()).ok());
  steps.AwaitArrival(1);
  std::this_thread::sleep_for(milliseconds(80));
  EXPECT_FALSE(health.Live().ok);
  EXPECT_EQ(health.Ready().status, "stalled");
  steps.Open();
  slot.Set(nullptr);
}

}  // namespace
}  // namespace hysparse
