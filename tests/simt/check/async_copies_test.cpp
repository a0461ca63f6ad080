//! Claims about copies by threads and about mbarriers, their phases and what they refuse.

#include "async_test.h"

#include <cmath>

using namespace claims;

namespace {

struct Buffers {
    const u32* in;
    u32* out;
};

/// Whether words are the 0xff of memory that has not been written.
bool is_poison(u32 word) { return word == 0xffffffffu; }

u32* words() { return static_cast<u32*>(ptx::shared_memory()); }

} // namespace

CLAIM(a_wait_covers_all_but_the_latest_groups) {
    under_each_policy([](const char*) {
        alignas(16) u32 in[12], out[12];
        for (u32 i = 0; i < 12; i++) in[i] = i, out[i] = 77;
        const std::string failure = run<[](const Buffers& x) {
            if (ptx::thread() != 0) return;
            for (u32 i = 0; i < 3; i++) {
                ptx::cp_async_16(words() + 4 * i, x.in + 4 * i, 16);
                ptx::cp_async_commit();
            }
            ptx::cp_async_wait<1>();
            std::memcpy(x.out, words(), 48);
        }>(Buffers{in, out}, 32, 64);
        EXPECT(failure.empty());
        for (u32 i = 0; i < 8; i++) EXPECT(out[i] == i);
        for (u32 i = 8; i < 12; i++) EXPECT(early() ? out[i] == i : is_poison(out[i]));
    });
}

CLAIM(a_copy_without_a_closed_group_is_not_waited_for) {
    const Options before = options();
    options().early = false;
    alignas(16) u32 in[4] = {1, 2, 3, 4}, out[4] = {};
    const std::string failure = run<[](const Buffers& x) {
        if (ptx::thread() != 0) return;
        ptx::cp_async_16(words(), x.in, 16);
        ptx::cp_async_wait<0>();
        std::memcpy(x.out, words(), 16);
    }>(Buffers{in, out}, 32, 64);
    options() = before;
    EXPECT(failure.empty() && is_poison(out[0]));
}

CLAIM(old_data_does_not_hide_a_missing_wait) {
    const Options before = options();
    options().early = false;
    alignas(16) u32 in[4] = {1, 2, 3, 4}, out[4] = {};
    const std::string failure = run<[](const Buffers& x) {
        if (ptx::thread() != 0) return;
        std::memcpy(words(), x.in, 16);
        ptx::cp_async_16(words(), x.in, 16);
        ptx::cp_async_commit();
        std::memcpy(x.out, words(), 16);
    }>(Buffers{in, out}, 32, 64);
    options() = before;
    EXPECT(failure.empty() && is_poison(out[0]));
}

CLAIM(a_copy_of_no_bytes_writes_zeros_and_reads_nothing) {
    under_each_policy([](const char*) {
        alignas(16) u32 out[4] = {7, 7, 7, 7};
        const std::string failure = run<[](const Buffers& x) {
            if (ptx::thread() != 0) return;
            ptx::cp_async_16(words(), nullptr, 0);
            ptx::cp_async_commit();
            ptx::cp_async_wait<0>();
            std::memcpy(x.out, words(), 16);
        }>(Buffers{nullptr, out}, 32, 64);
        EXPECT(failure.empty());
        for (const u32 word : out) EXPECT(word == 0);
    });
}

CLAIM(a_thread_waits_for_its_own_copies_alone) {
    const Options before = options();
    options().early = false;
    options().order = Order::Reverse; // thread 1 copies before thread 0 waits
    alignas(16) u32 in[4] = {1, 2, 3, 4}, out[4] = {};
    const std::string failure = run<[](const Buffers& x) {
        if (ptx::thread() == 1) {
            ptx::cp_async_16(words(), x.in, 16);
            ptx::cp_async_commit();
        }
        ptx::sync_warp();
        if (ptx::thread() == 0) {
            ptx::cp_async_wait<0>();
            std::memcpy(x.out, words(), 16);
        }
        ptx::sync_warp();
    }>(Buffers{in, out}, 32, 64);
    options() = before;
    EXPECT(failure.empty() && is_poison(out[0]));
}

CLAIM(copies_are_refused_where_the_isa_leaves_them_undefined) {
    alignas(16) u32 in[8] = {};
    EXPECT(says(run<[](const Buffers& x) { ptx::cp_async_16(words() + 1, x.in, 16); }>(Buffers{in, in}, 32, 64), "not aligned to 16"));
    EXPECT(says(run<[](const Buffers& x) { ptx::cp_async_16(words(), x.in + 1, 16); }>(Buffers{in, in}, 32, 64), "not aligned to 16"));
    EXPECT(says(run<[](const Buffers& x) { ptx::cp_async_16(words(), x.in, 8); }>(Buffers{in, in}, 32, 64), "8 valid bytes"));
    EXPECT(says(run<[](const Buffers& x) { ptx::cp_async_16(words() + 16, x.in, 16); }>(Buffers{in, in}, 32, 64), "not 16 bytes of shared"));
    EXPECT(says(run<[](const Buffers& x) { ptx::cp_async_16(x.out, x.in, 16); }>(Buffers{in, in}, 32, 64), "not 16 bytes of shared"));
    EXPECT(says(run<[](const Buffers&) { ptx::cp_async_16(words(), words() + 4, 16); }>(Buffers{in, in}, 32, 64), "not global"));
}

// ---- mbarriers ----

namespace {
ptx::u64* barrier_at(u32 i) { return static_cast<ptx::u64*>(ptx::shared_memory()) + i; }
} // namespace

CLAIM(threads_hand_over_in_turn_by_phases) {
    under_each_policy([](const char*) {
        u32 sum = 0;
        // Thread 0 writes a word, thread 32 adds it up and gives it back, ten times.
        const std::string failure = run<[](const Buffers& x) {
            ptx::u64 *full = barrier_at(0), *empty = barrier_at(1);
            if (ptx::thread() == 0) {
                ptx::mbarrier_init(full, 1);
                ptx::mbarrier_init(empty, 1);
            }
            ptx::sync_block();
            for (u32 i = 0; i < 10; i++) {
                if (ptx::thread() == 0) {
                    ptx::mbarrier_wait(empty, ~i & 1); // the first finds the phase before the first complete
                    words()[8] = i;
                    ptx::mbarrier_arrive(full);
                } else if (ptx::thread() == 32) {
                    ptx::mbarrier_wait(full, i & 1);
                    *x.out += words()[8];
                    words()[8] = 1000;
                    ptx::mbarrier_arrive(empty);
                }
            }
        }>(Buffers{nullptr, &sum}, 64, 64);
        EXPECT(failure.empty());
        EXPECT(sum == 45);
    });
}

CLAIM(a_phase_needs_all_its_arrivals) {
    EXPECT(says(run<[](const Buffers&) {
        if (ptx::thread() == 0) ptx::mbarrier_init(barrier_at(0), 3);
        ptx::sync_block();
        if (ptx::thread() < 2) ptx::mbarrier_arrive(barrier_at(0));
        ptx::mbarrier_wait(barrier_at(0), 0);
    }>(Buffers{}, 32, 64), "deadlock"));
}

CLAIM(bytes_that_are_expected_hold_a_phase_and_must_come) {
    EXPECT(says(run<[](const Buffers&) {
        if (ptx::thread() != 0) return;
        ptx::mbarrier_init(barrier_at(0), 1);
        ptx::mbarrier_arrive_expect(barrier_at(0), 16);
        ptx::mbarrier_wait(barrier_at(0), 0);
    }>(Buffers{}, 32, 64), "deadlock"));
    EXPECT(says(run<[](const Buffers&) {
        if (ptx::thread() != 0) return;
        ptx::mbarrier_init(barrier_at(0), 1);
        ptx::mbarrier_arrive_expect(barrier_at(0), 16);
    }>(Buffers{}, 32, 64), "tx-count of 16"));
}

CLAIM(mbarriers_are_refused_where_the_isa_leaves_them_undefined) {
    const auto one = []<auto BODY>() {
        return run<[](const Buffers&) {
            if (ptx::thread() == 0) BODY();
        }>(Buffers{}, 32, 64);
    };
    EXPECT(says(one.template operator()<[] { ptx::mbarrier_arrive(barrier_at(0)); }>(), "not initialised"));
    EXPECT(says(one.template operator()<[] { ptx::mbarrier_wait(barrier_at(0), 0); }>(), "not initialised"));
    EXPECT(says(one.template operator()<[] { ptx::mbarrier_init(barrier_at(0), 0); }>(), "0 arrivals"));
    EXPECT(says(one.template operator()<[] { ptx::mbarrier_init(barrier_at(0), 1u << 20); }>(), "1048576 arrivals"));
    EXPECT(says(one.template operator()<[] {
        ptx::mbarrier_init(barrier_at(0), 1);
        ptx::mbarrier_init(barrier_at(0), 1);
    }>(), "already"));
    EXPECT(says(one.template operator()<[] {
        ptx::mbarrier_init(barrier_at(0), 1);
        std::memset(barrier_at(0), 0, 8);
        ptx::mbarrier_arrive(barrier_at(0));
    }>(), "written over"));
    EXPECT(says(one.template operator()<[] {
        ptx::mbarrier_init(barrier_at(0), 1);
        ptx::mbarrier_arrive_expect(barrier_at(0), 8);
        ptx::mbarrier_arrive(barrier_at(0));
    }>(), "more arrivals"));
    EXPECT(says(one.template operator()<[] {
        ptx::mbarrier_init(barrier_at(0), 1);
        ptx::mbarrier_arrive(barrier_at(0));
        ptx::mbarrier_arrive(barrier_at(0));
    }>(), "no thread has waited"));
    EXPECT(says(one.template operator()<[] {
        ptx::mbarrier_init(barrier_at(0), 1);
        ptx::mbarrier_arrive_expect(barrier_at(0), 1u << 20);
    }>(), "out of range"));
    EXPECT(says(one.template operator()<[] { ptx::mbarrier_wait(barrier_at(0), 2); }>(), "parity of 2"));
    EXPECT(says(one.template operator()<[] {
        ptx::mbarrier_init(reinterpret_cast<ptx::u64*>(static_cast<u8*>(ptx::shared_memory()) + 4), 1);
    }>(), "not aligned to 8"));
}

CLAIM(registers_are_given_before_they_are_taken) {
    // 384 threads start with 168 each: 40 + 232 + 232 = 3 * 168.
    under_each_policy([](const char*) {
        EXPECT((run<[](const Buffers&) {
            if (ptx::warp() < 4) {
                ptx::registers_give<40>();
            } else {
                ptx::registers_take<232>();
            }
        }>(Buffers{}, 384, 64).empty()));
    });
    EXPECT(says(run<[](const Buffers&) {
        if (ptx::warp() >= 4) ptx::registers_take<232>();
    }>(Buffers{}, 384, 64), "deadlock"));
}
