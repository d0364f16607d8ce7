// How long a line of memory takes from one core to another and back: the least of several readings, in nanoseconds.

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace {

constexpr int kReadings = 5;
constexpr int kTrips = 2000;
alignas(64) std::atomic<int> there{0};
alignas(64) std::atomic<int> back{0};

void StayOn(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

void Answer(int core) {
  StayOn(core);
  for (int seen = 0; seen < kReadings * kTrips;) {
    const int found = there.load(std::memory_order_acquire);
    if (found != seen) back.store(seen = found, std::memory_order_release);
  }
}

void Ask(int core, double* least) {
  StayOn(core);
  int sent = 0;
  for (int reading = 0; reading < kReadings; ++reading) {
    const auto begin = std::chrono::steady_clock::now();
    for (int trip = 0; trip < kTrips; ++trip) {
      there.store(++sent, std::memory_order_release);
      while (back.load(std::memory_order_acquire) != sent) {
      }
    }
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
    if (reading == 0 || took.count() / kTrips < *least) *least = took.count() / kTrips;
  }
}

}  // namespace

extern "C" double round_trip_ns(int first, int second) {
  there.store(0);
  back.store(0);
  double least = 0;
  std::thread answers(Answer, second);
  std::thread asks(Ask, first, &least);
  asks.join();
  answers.join();
  return least;
}
