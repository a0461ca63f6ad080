//! Products by warpgroups (wgmma) and their groups; and the registers that a warpgroup has.
//!
//! PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions": all four warps of an aligned warpgroup issue the same
//! products with the same descriptors. But .sync and .aligned, groups and waits are each warp's own, and nothing says that
//! the four are in step; so each warp's 16 rows are a product of their own here, done when that warp issues it (early) or
//! at its wait that covers it (late). A warp that has waited has said nothing of what the other three still read. Late, the
//! accumulators hold NaNs from the first product's issue until none is under way.
//!
//! "wgmma.fence": needed before the first product and wherever registers of one were accessed in between. Which accesses
//! there were cannot be seen here, so it is asked for after each wait, which is where accumulators are free again.

#include "operand.h"
#include "proxy.h"
#include "ptx.cuh"

#include <algorithm>
#include <cstring>
#include <deque>
#include <limits>
#include <list>
#include <vector>

namespace simt {
namespace {

constexpr u32 ROWS = 16; // of a warp

/// A warp's fragments of d that products write, while any is under way.
struct Accumulators {
    float* d[WARP];
    u32 len;
    u32 under_way = 0;
    std::vector<float> values; // the true ones, lane by lane

    Accumulators(float* const* lanes, u32 len) : len(len), values(size_t(WARP) * len) {
        for (u32 i = 0; i < WARP; i++) {
            d[i] = lanes[i];
            std::memcpy(&values[i * len], d[i], len * sizeof(float));
            for (u32 j = 0; j < len; j++) d[i][j] = std::numeric_limits<float>::quiet_NaN();
        }
    }
    void release() const {
        for (u32 i = 0; i < WARP; i++) std::memcpy(d[i], &values[i * len], len * sizeof(float));
    }
};

struct Product {
    const char* name;
    Half type;
    u32 n;
    u64 a, b;
    bool accumulate;
    std::list<Accumulators>::iterator to;
};

/// d's rows of one warp.
void multiply(const Product& product, u32 warp, float* const* d) {
    const AsyncView& view = block_state<AsyncView>();
    u16 halves[ROWS * DEPTH];
    float rows[ROWS * DEPTH];
    Operand(product.a, product.name).gather(view, ROWS * (warp % 4), ROWS, halves);
    to_floats(product.type, halves, rows, ROWS * DEPTH);
    const float* spread = spread_operand(Operand(product.b, product.name), view, product.type, product.n);
    multiply_warp(d, product.n, rows, spread, product.accumulate);
}

/// The products of one warp that have been put off.
struct WarpProducts {
    std::deque<Product> issued;
    std::deque<u32> groups; // products in each that was closed
    u32 open = 0;           // products since
    std::list<Accumulators> accumulators;

    void issue(Product product, float* const* d) {
        const u32 len = product.n / 2;
        product.to = accumulators.begin();
        while (product.to != accumulators.end() && (product.to->d[0] != d[0] || product.to->len != len)) ++product.to;
        if (product.to == accumulators.end()) product.to = accumulators.emplace(product.to, d, len);
        product.to->under_way++;
        issued.push_back(product);
        open++;
    }
    void close() {
        groups.push_back(open);
        open = 0;
    }
    void run(u32 warp) {
        for (u32 i = groups.front(); i-- > 0;) {
            const Product& product = issued.front();
            float* d[WARP];
            for (u32 lane = 0; lane < WARP; lane++) d[lane] = &product.to->values[lane * product.to->len];
            multiply(product, warp, d);
            if (--product.to->under_way == 0) {
                product.to->release();
                accumulators.erase(product.to);
            }
            issued.pop_front();
        }
        groups.pop_front();
    }
};

/// What the warps of a warpgroup have issued and not all four yet, to be compared.
struct Sequence {
    std::deque<Product> products;
    u64 before = 0; // products that all four have issued
    u64 issued[4] = {};

    void issue(u32 warp, const Product& product) {
        const u64 i = issued[warp]++ - before;
        if (i == products.size()) products.push_back(product);
        const Product& first = products[i];
        if (first.n != product.n || first.type != product.type || first.a != product.a || first.b != product.b || first.accumulate != product.accumulate) {
            fail("%s: the warpgroup's warps give different operands, or another product", product.name);
        }
        for (; !products.empty() && std::min({issued[0], issued[1], issued[2], issued[3]}) > before; before++) products.pop_front();
    }
};

struct Products {
    std::vector<WarpProducts> warps{place().threads / WARP};
    std::vector<Sequence> warpgroups{place().threads / WARPGROUP};
    void finish() const {
        for (const auto& warp : warps) {
            if (!warp.issued.empty()) fail("a block ends while %zu products of a warp are under way", warp.issued.size());
        }
        for (const auto& group : warpgroups) {
            if (!group.products.empty()) fail("a block ends, and %zu products were not issued by all four warps", group.products.size());
        }
    }
};

/// Whether a thread has called wgmma_fence since its last wait.
struct Fence {
    bool called = false;
};

void require_warpgroups(const char* name) {
    if (arch() != 90) fail("%s is of sm_90a alone; the device is sm_%u", name, arch());
}

struct Issue {
    Product product;
    float* d;
    const Fence* fence;
};

void issue(Issue* const* lanes) {
    const Product& product = lanes[0]->product;
    float* d[WARP];
    for (u32 i = 0; i < WARP; i++) {
        const Issue& lane = *lanes[i];
        if (!lane.fence->called) fail("%s: a thread has not called wgmma_fence since its last wait", product.name);
        if (lane.product.a != product.a || lane.product.b != product.b || lane.product.accumulate != product.accumulate) {
            fail("%s: the warp's threads give different operands", product.name);
        }
        d[i] = lane.d;
    }
    // Malformed ones fail where they are issued.
    Operand(product.a, product.name), Operand(product.b, product.name);
    block_state<AsyncView>().refresh();
    const u32 warp = self().warp;
    Products& products = block_state<Products>();
    if (warp / 4 >= products.warpgroups.size()) fail("%s: warp %u is in no whole warpgroup", product.name, warp);
    products.warpgroups[warp / 4].issue(warp % 4, product);
    if (early()) {
        multiply(product, warp, d);
    } else {
        products.warps[warp].issue(product, d);
    }
}

} // namespace

void products_fence() {
    require_warpgroups("wgmma_fence");
    thread_state<Fence>().called = true;
}

void product(const char* name, Half type, float* d, u32 n, u64 a, u64 b, u32 accumulate) {
    require_warpgroups(name);
    Issue mine{Product{name, type, n, a, b, accumulate != 0, {}}, d, &thread_state<Fence>()};
    warp_collective<Issue>(name, mine, issue);
}

/// "Commits all prior uncommitted wgmma.mma_async operations into a wgmma-group" of the warp.
void products_commit() {
    require_warpgroups("wgmma_commit");
    if (early()) return;
    int nothing = 0;
    warp_collective<int>("wgmma_commit", nothing, [](int* const*) { block_state<Products>().warps[self().warp].close(); });
}

void products_wait(u32 left) {
    require_warpgroups("wgmma_wait");
    thread_state<Fence>().called = false;
    if (early()) return;
    warp_collective<u32>("wgmma_wait", left, [](u32* const* lanes) {
        block_state<AsyncView>().refresh();
        WarpProducts& products = block_state<Products>().warps[self().warp];
        while (products.groups.size() > *lanes[0]) products.run(self().warp);
    });
}

namespace {

/// What each warp has, in registers a thread. A block starts with an equal share of the multiprocessor's 65,536, rounded
/// down to 8 (PTX ISA, "setmaxnreg": "the per-CTA-register-pool"), as if it had the multiprocessor to itself. All warps of
/// a warpgroup have to set theirs, but nothing says that they wait for each other.
struct Registers {
    u32 share = 65536 / place().threads / 8 * 8 < 255 ? 65536 / place().threads / 8 * 8 : 248;
    std::vector<u32> now = std::vector<u32>(place().threads / WARP, share);
    std::vector<u32> set = std::vector<u32>(place().threads / WARP); // times

    u32 unused() const {
        u32 used = 0;
        for (u32 count : now) used += count;
        return share * u32(now.size()) - used;
    }
    void finish() const {
        for (size_t i = 1; i < set.size(); i++) {
            if (i % 4 != 0 && (set[i] != set[i - 1] || now[i] != now[i - 1])) fail("the warps of a warpgroup have set different registers");
        }
    }
};

} // namespace

/// "setmaxnreg.inc blocks until enough registers are available in the per-CTA-register-pool."
void registers_set(u32 count, bool more) {
    const char* name = more ? "registers_take" : "registers_give";
    require_warpgroups(name);
    if (count < 24 || count > 256 || count % 8 != 0) fail("%s: %u registers; 24 to 256 by 8", name, count);
    warp_collective<u32>(name, count, [](u32* const* lanes) {
        for (u32 i = 0; i < WARP; i++) {
            if (*lanes[i] != *lanes[0]) fail("a warp's threads set different numbers of registers");
        }
        block_state<Registers>().set[self().warp]++;
    });
    Registers& registers = block_state<Registers>();
    u32& now = registers.now[self().warp];
    if (!more) {
        if (count > now) fail("%s: %u registers, of %u", name, count, now);
        now = count;
        return;
    }
    // A kernel may have been compiled to start with fewer than its share.
    wait_for([&] {
        if (count < now || registers.unused() >= count - now) now = count;
        return now == count;
    }, name);
}

} // namespace simt
