// collage.hpp: collage.h for C++17, in one header.
//
//     collage::Engine engine(collage::Options().model("base.safetensors"));
//     collage::Answer answer = engine.classify(collage::Image::encoded(bytes));
//     std::cout << answer.label << ' ' << answer.confidence << '\n';
//
// Handles are objects that own: they can be moved and not copied, and free themselves. A status that is not COLLAGE_OK is
// thrown as collage::Error, except that "not settled yet" is an empty std::optional. Answers are values: they outlive their
// tickets and engines. What collage.h says of threads, blocking and memory holds here too.
#ifndef COLLAGE_HPP
#define COLLAGE_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "collage.h"

namespace collage {

// Why a call failed: the whole message, and the number to decide by.
class Error : public std::runtime_error {
public:
    Error(collage_status status, const std::string &message, bool can_retry)
        : std::runtime_error(message), status_(status), can_retry_(can_retry) {}

    // This thread's last failure.
    static Error last() {
        return Error(collage_last_status(), collage_last_error(), collage_last_error_can_retry() != 0);
    }

    collage_status status() const noexcept { return status_; }
    // Whether the same call may succeed later.
    bool can_retry() const noexcept { return can_retry_; }

private:
    collage_status status_;
    bool can_retry_;
};

// Throws unless `status` is COLLAGE_OK.
inline void check(collage_status status) {
    if (status != COLLAGE_OK) throw Error::last();
}

// Bytes that somebody else holds; std::span is C++20.
struct Bytes {
    const void *data = nullptr;
    std::size_t size = 0;

    Bytes() = default;
    Bytes(const void *data_, std::size_t size_) : data(data_), size(size_) {}
    Bytes(std::string_view text) : data(text.data()), size(text.size()) {}
    template <typename T, typename A>
    Bytes(const std::vector<T, A> &items) : data(items.data()), size(items.size() * sizeof(T)) {}
};

// Settings of an engine. What is not set has its default; every setting can also be given by toml().
class Options {
public:
    Options &toml(std::string_view text) { return keep(&collage_options::toml, text); }
    Options &config(std::string_view path) { return keep(&collage_options::config_path, path); }
    Options &model(std::string_view path) { return keep(&collage_options::model_path, path); }
    Options &arch(std::string_view name) { return keep(&collage_options::arch, name); }
    Options &collage(std::string_view path) { return keep(&collage_options::collage_path, path); }
    // A model file's bytes, which must live until the engine is open.
    Options &model_bytes(Bytes file) {
        options_.model_data = file.data;
        options_.model_size = file.size;
        return *this;
    }
    Options &collage_bytes(Bytes file) {
        options_.collage_data = file.data;
        options_.collage_size = file.size;
        return *this;
    }
    // Where to run, such as "cuda:0"; may be called several times, and workers are dealt over the devices in turn.
    Options &device(std::string_view name) {
        devices_.push_back(std::make_shared<std::string>(name));
        return *this;
    }
    Options &policy(std::string_view text) { return keep(&collage_options::policy, text); }
    Options &grid(std::string_view text) { return keep(&collage_options::grid, text); }
    Options &stragglers(std::string_view list) { return keep(&collage_options::stragglers, list); }
    Options &workers(std::int64_t count) { return set(&collage_options::workers, count); }
    Options &collage_workers(std::int64_t count) { return set(&collage_options::collage_workers, zero(count)); }
    Options &queue(std::int64_t count) { return set(&collage_options::queue, count); }
    Options &max_batch(std::int64_t count) { return set(&collage_options::max_batch, count); }
    Options &top_k(std::int64_t count) { return set(&collage_options::top_k, count); }
    Options &batch_wait(std::chrono::nanoseconds t) { return set(&collage_options::batch_wait_ns, zero(t.count())); }
    Options &group_wait(std::chrono::nanoseconds t) { return set(&collage_options::group_wait_ns, zero(t.count())); }
    Options &release(std::chrono::nanoseconds t) { return set(&collage_options::release_ns, zero(t.count())); }
    Options &deadline(std::chrono::nanoseconds t) { return set(&collage_options::deadline_ns, zero(t.count())); }
    Options &budget(double share) { return set(&collage_options::budget, zero(share)); }
    Options &accuracy(double budget, double drop) {
        set(&collage_options::accuracy_budget, zero(budget));
        return set(&collage_options::accuracy_drop, zero(drop));
    }
    Options &min_confidence(double p) { return set(&collage_options::min_confidence, zero(p)); }
    Options &seed(std::uint64_t seed) { return set(&collage_options::seed, seed); }

private:
    friend class Engine;
    using Text = const char *collage_options::*;

    // The texts are where the struct says only while `use` runs: an Options may be moved and copied before.
    template <typename Use>
    void with(Use use) const {
        collage_options options = options_;
        for (const auto &text : texts_) options.*(text.first) = text.second->c_str();
        std::vector<const char *> devices;
        for (const auto &device : devices_) devices.push_back(device->c_str());
        options.devices = devices.empty() ? nullptr : devices.data();
        options.device_count = devices.size();
        use(options);
    }
    Options &keep(Text field, std::string_view text) {
        texts_.emplace_back(field, std::make_shared<std::string>(text));
        return *this;
    }
    template <typename T, typename V>
    Options &set(T collage_options::*field, V value) {
        options_.*field = static_cast<T>(value);
        return *this;
    }
    // In C zero is the default; here it was said.
    template <typename T>
    static T zero(T value) {
        return value == T{} ? static_cast<T>(COLLAGE_NONE) : value;
    }

    collage_options options_ = COLLAGE_OPTIONS_INIT;
    std::vector<std::pair<Text, std::shared_ptr<std::string>>> texts_;
    std::vector<std::shared_ptr<std::string>> devices_;
};

// An image that is about to be submitted. Host memory must live until the submission returns.
class Image {
public:
    // The bytes of a JPEG, PNG, WebP or BMP file.
    static Image encoded(Bytes file) {
        Image image;
        image.image_.data = file.data;
        image.image_.size = file.size;
        return image;
    }
    // A packed tensor of 2 to 4 dimensions: (H, W), (H, W, C), (N, H, W, C), or as COLLAGE_CHW orders them.
    static Image tensor(const std::uint8_t *data, const std::vector<std::int64_t> &shape, std::uint32_t layout = COLLAGE_HWC) {
        return tensor(data, COLLAGE_U8, shape, layout);
    }
    static Image tensor(const float *data, const std::vector<std::int64_t> &shape, std::uint32_t layout = COLLAGE_HWC) {
        return tensor(data, COLLAGE_F32, shape, layout);
    }
    static Image tensor(const void *data, std::uint32_t type, const std::vector<std::int64_t> &shape, std::uint32_t layout) {
        Image image;
        image.image_.data = data;
        image.image_.type = type;
        image.image_.layout = layout;
        image.image_.dimensions = static_cast<std::uint32_t>(shape.size());
        for (std::size_t i = 0; i < shape.size() && i < 4; ++i) image.image_.shape[i] = shape[i];
        return image;
    }
    // A DLManagedTensor, or a DLManagedTensorVersioned: the library's once it was submitted.
    static Image dlpack(void *managed, bool versioned, std::uint32_t layout = COLLAGE_HWC) {
        Image image;
        check(collage_image_from_dlpack(managed, versioned ? 1 : 0, layout, &image.image_));
        return image;
    }

    // In bytes.
    Image &strides(const std::vector<std::int64_t> &strides) {
        for (std::size_t i = 0; i < strides.size() && i < 4; ++i) image_.strides[i] = strides[i];
        return *this;
    }
    // The values that are black and white.
    Image &range(float low, float high) {
        image_.low = low;
        image_.high = high;
        return *this;
    }
    // The tensor is in memory of this CUDA device, and made on this stream; `owner` is held until it is not read any more.
    Image &cuda(std::int32_t device, std::int64_t stream, std::shared_ptr<void> owner) {
        image_.memory = COLLAGE_CUDA;
        image_.device_index = device;
        image_.stream = stream;
        owner_ = std::move(owner);
        return *this;
    }
    // For messages.
    Image &name(std::string_view text) {
        name_ = text;
        return *this;
    }
    // The struct itself, for what has no function here.
    collage_image &raw() noexcept { return image_; }

private:
    friend class Engine;
    Image() = default;

    // As C takes it; `kept` receives what a submission that succeeds gives to the library.
    collage_image given(std::unique_ptr<std::shared_ptr<void>> &kept) const {
        collage_image image = image_;
        if (!name_.empty()) image.name = name_.c_str();
        if (owner_) {
            kept = std::make_unique<std::shared_ptr<void>>(owner_);
            image.release = [](void *owner) { delete static_cast<std::shared_ptr<void> *>(owner); };
            image.release_context = kept.get();
        }
        return image;
    }

    collage_image image_ = COLLAGE_IMAGE_INIT;
    std::string name_;
    std::shared_ptr<void> owner_;
};

// A class and its probability.
struct Score {
    std::uint32_t class_index = 0;
    float score = 0;
    std::string label;
};

// An answer.
struct Answer {
    std::uint64_t request = 0;
    std::uint32_t class_index = 0;
    float confidence = 0;
    std::string label;
    std::vector<Score> top;
    std::chrono::nanoseconds latency{0};
    std::uint32_t source = COLLAGE_FROM_BASE;
    std::uint32_t independence = COLLAGE_SHARED_WORKER;
    std::uint32_t worker = 0;
    std::optional<std::uint32_t> tile; // its place in the collage that answered
    std::uint64_t collage = 0;

    explicit Answer(const collage_answer &given)
        : request(given.request),
          class_index(given.class_index),
          confidence(given.confidence),
          label(given.label),
          latency(given.latency_ns),
          source(given.source),
          independence(given.independence),
          worker(given.worker),
          collage(given.collage) {
        if (given.tile != COLLAGE_NO_TILE) tile = given.tile;
        for (std::size_t i = 0; i < given.top_count; ++i)
            top.push_back(Score{given.top[i].class_index, given.top[i].score, given.top[i].label});
    }
};

// What a request may ask for beyond the engine's settings.
class Request {
public:
    Request &release(std::chrono::nanoseconds after) {
        request_.release_ns = after.count() == 0 ? COLLAGE_NONE : after.count();
        return *this;
    }
    Request &deadline(std::chrono::nanoseconds after) {
        request_.deadline_ns = after.count() == 0 ? COLLAGE_NONE : after.count();
        return *this;
    }
    // Moments of collage_now_ns().
    Request &release_at(std::int64_t ns) {
        request_.release_at_ns = ns;
        return *this;
    }
    Request &deadline_at(std::int64_t ns) {
        request_.deadline_at_ns = ns;
        return *this;
    }
    // When it was due, where that is earlier than now.
    Request &due_at(std::int64_t ns) {
        request_.due_at_ns = ns;
        return *this;
    }

private:
    friend class Engine;
    collage_request request_ = COLLAGE_REQUEST_INIT;
};

// A submitted request. Destroying it before it is settled cancels it.
class Ticket {
public:
    Ticket(Ticket &&other) noexcept : ticket_(std::exchange(other.ticket_, nullptr)) {}
    Ticket &operator=(Ticket &&other) noexcept {
        std::swap(ticket_, other.ticket_);
        return *this;
    }
    Ticket(const Ticket &) = delete;
    Ticket &operator=(const Ticket &) = delete;
    ~Ticket() { collage_ticket_free(ticket_); }

    // Waits for the answer: until the request's deadline at the latest.
    Answer wait() const { return *take(COLLAGE_FOREVER); }
    // Empty if it takes longer than `timeout`.
    std::optional<Answer> wait_for(std::chrono::nanoseconds timeout) const { return take(timeout.count()); }
    // Empty if there is no outcome yet.
    std::optional<Answer> poll() const { return take(0); }
    void cancel() const { check(collage_ticket_cancel(ticket_)); }
    collage_ticket *get() const noexcept { return ticket_; }

private:
    friend class Engine;
    explicit Ticket(collage_ticket *ticket) : ticket_(ticket) {}

    std::optional<Answer> take(std::int64_t timeout_ns) const {
        collage_answer answer = COLLAGE_ANSWER_INIT;
        const collage_status status = collage_ticket_wait(ticket_, timeout_ns, &answer);
        if (status == COLLAGE_PENDING) return std::nullopt;
        check(status);
        return Answer(answer);
    }

    collage_ticket *ticket_;
};

// What a callback is told: an answer, or why there is none.
using Outcome = std::function<void(const Answer *answer, const Error *error)>;

// A running engine. Destroying it waits until all accepted requests are settled and all callbacks have returned.
class Engine {
public:
    explicit Engine(const Options &options = Options()) {
        options.with([this](const collage_options &given) { check(collage_engine_open(&given, &engine_)); });
    }
    Engine(Engine &&other) noexcept : engine_(std::exchange(other.engine_, nullptr)) {}
    Engine &operator=(Engine &&other) noexcept {
        std::swap(engine_, other.engine_);
        return *this;
    }
    Engine(const Engine &) = delete;
    Engine &operator=(const Engine &) = delete;
    ~Engine() { collage_engine_free(engine_); }

    Ticket submit(const Image &image, const Request &request = Request()) const {
        std::unique_ptr<std::shared_ptr<void>> kept;
        const collage_image given = image.given(kept);
        collage_ticket *ticket = nullptr;
        check(collage_submit(engine_, &given, &request.request_, &ticket));
        (void)kept.release();
        return Ticket(ticket);
    }

    // Calls `outcome` once, on a thread of the engine; what it throws is lost. It must not close this engine.
    void submit(const Image &image, const Request &request, Outcome outcome) const {
        std::unique_ptr<std::shared_ptr<void>> kept;
        const collage_image given = image.given(kept);
        auto told = std::make_unique<Outcome>(std::move(outcome));
        collage_request asked = request.request_;
        asked.callback = &tell;
        asked.user_data = told.get();
        check(collage_submit(engine_, &given, &asked, nullptr));
        (void)kept.release();
        (void)told.release();
    }

    // All images of a batch, or none: if the queue is full in between, those that were accepted are cancelled.
    std::vector<Ticket> submit_batch(const Image &batch, std::size_t images, const Request &request = Request()) const {
        std::unique_ptr<std::shared_ptr<void>> kept;
        const collage_image given = batch.given(kept);
        std::vector<collage_ticket *> handles(images, nullptr);
        std::size_t submitted = 0;
        const collage_status status = collage_submit_many(engine_, &given, 1, &request.request_, handles.data(), images, &submitted);
        const std::optional<Error> error = status == COLLAGE_OK ? std::nullopt : std::optional<Error>(Error::last());
        if (submitted > 0) (void)kept.release();
        std::vector<Ticket> tickets;
        for (std::size_t i = 0; i < submitted; ++i) tickets.push_back(Ticket(handles[i]));
        if (error) throw *error;
        return tickets;
    }

    // Submits and waits.
    Answer classify(const Image &image, const Request &request = Request()) const { return submit(image, request).wait(); }

    std::vector<std::string> labels() const {
        std::size_t count = 0;
        check(collage_engine_class_count(engine_, &count));
        std::vector<std::string> labels;
        for (std::size_t i = 0; i < count; ++i) {
            const char *label = nullptr;
            check(collage_engine_class_label(engine_, i, &label));
            labels.emplace_back(label);
        }
        return labels;
    }

    collage_stats stats() const {
        collage_stats stats = COLLAGE_STATS_INIT;
        check(collage_engine_stats(engine_, &stats));
        return stats;
    }

    std::string stats_json() const {
        std::string text;
        std::size_t length = 4096;
        collage_status status = COLLAGE_BUFFER_TOO_SMALL;
        while (status == COLLAGE_BUFFER_TOO_SMALL) { // the text may grow between two calls
            text.resize(length + 1);
            status = collage_engine_stats_json(engine_, &text[0], text.size(), &length);
        }
        check(status);
        text.resize(length);
        return text;
    }

    // Takes no more requests, waits until all are settled, and ends the engine's threads.
    collage_stats close() const {
        collage_stats stats = COLLAGE_STATS_INIT;
        check(collage_engine_close(engine_, &stats));
        return stats;
    }

    collage_engine *get() const noexcept { return engine_; }

private:
    static void tell(void *user_data, collage_ticket *, collage_status status, const collage_answer *given) noexcept {
        const std::unique_ptr<Outcome> told(static_cast<Outcome *>(user_data));
        try {
            if (status == COLLAGE_OK) {
                const Answer answer(*given);
                (*told)(&answer, nullptr);
            } else {
                const Error error = Error::last();
                (*told)(nullptr, &error);
            }
        } catch (...) {
            // An exception must not reach the library.
        }
    }

    collage_engine *engine_ = nullptr;
};

} // namespace collage

#endif // COLLAGE_HPP
