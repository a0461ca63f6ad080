// What the C++ wrapper adds: ownership, values, exceptions, and functions as callbacks.
#include <atomic>
#include <type_traits>

#include "check.h"
#include "collage.hpp"

using namespace std::chrono_literals;

static_assert(!std::is_copy_constructible_v<collage::Engine> && std::is_nothrow_move_constructible_v<collage::Engine>);
static_assert(!std::is_copy_constructible_v<collage::Ticket> && std::is_nothrow_move_assignable_v<collage::Ticket>);

namespace {

collage::Options options() {
    return collage::Options().device("cpu:1").deadline(60s).policy("none");
}

collage::Image digit() {
    return collage::Image::tensor(STROKE, {8, 8});
}

void answers_outlive_tickets_and_engines() {
    std::optional<collage::Answer> answer;
    {
        collage::Options moved = options().top_k(3);
        const collage::Options copy = moved;
        moved = collage::Options();
        collage::Engine engine(copy);
        CHECK(engine.labels().size() == 10);
        answer = engine.classify(digit());
    }
    CHECK(answer->label == "1" && answer->top.size() == 3 && answer->top[0].score == answer->confidence && !answer->tile);
}

void handles_move_and_free_once() {
    collage::Engine first(options());
    collage::Engine second(std::move(first));
    CHECK(first.get() == nullptr && second.get() != nullptr);
    std::vector<collage::Ticket> tickets;
    for (int i = 0; i < 5; i++) tickets.push_back(second.submit(digit()));
    tickets.erase(tickets.begin());
    for (const auto &ticket : tickets) CHECK(ticket.wait().class_index == 1);
    first = std::move(second);
    CHECK(first.close().submitted == 5);
}

void failures_are_thrown_with_their_number() {
    collage::Engine engine(options());
    try {
        (void)engine.classify(collage::Image::encoded(std::string_view("no image")).name("x.jpg"));
        CHECK(!"it was thrown");
    } catch (const collage::Error &error) {
        CHECK(error.status() == COLLAGE_IMAGE_FORMAT && !error.can_retry() && strstr(error.what(), "x.jpg"));
    }
    try {
        collage::Engine none(collage::Options().device("cpu:1").toml("workrs = 3"));
        CHECK(!"it was thrown");
    } catch (const collage::Error &error) {
        CHECK(error.status() == COLLAGE_CONFIG_KEY);
    }
}

void waits_that_are_too_short_are_empty() {
    collage::Engine engine(options().stragglers("pause:0:200"));
    const collage::Ticket ticket = engine.submit(digit());
    CHECK(!ticket.poll() && !ticket.wait_for(1ms));
    CHECK(ticket.wait_for(60s)->label == "1");
    const collage::Ticket late = engine.submit(digit(), collage::Request().deadline_at(collage_now_ns() + 1000000));
    try {
        (void)late.wait();
        CHECK(!"it was thrown");
    } catch (const collage::Error &error) {
        CHECK(error.status() == COLLAGE_DEADLINE_EXCEEDED && error.can_retry());
    }
}

void functions_are_called_once_and_may_throw() {
    std::atomic<int> answers{0}, errors{0};
    {
        collage::Engine engine(options());
        for (int i = 0; i < 10; i++) {
            engine.submit(digit(), collage::Request(), [&answers](const collage::Answer *answer, const collage::Error *) {
                answers += answer != nullptr && answer->label == "1";
                throw std::runtime_error("lost");
            });
        }
        collage::Request late;
        late.deadline_at(1);
        engine.submit(digit(), late, [&errors](const collage::Answer *, const collage::Error *error) {
            errors += error != nullptr && error->status() == COLLAGE_DEADLINE_EXCEEDED;
        });
    }
    CHECK(answers == 10 && errors == 1);
}

void batches_give_a_ticket_each() {
    collage::Engine engine(options());
    std::vector<float> batch;
    for (int i = 0; i < 3; i++)
        for (unsigned char p : STROKE) batch.push_back(static_cast<float>(p) / 255.0f);
    const auto tickets = engine.submit_batch(collage::Image::tensor(batch.data(), {3, 1, 8, 8}, COLLAGE_CHW), 3);
    CHECK(tickets.size() == 3);
    for (const auto &ticket : tickets) CHECK(ticket.wait().label == "1");
    CHECK(engine.stats().base + engine.stats().collage == 3);
    CHECK(engine.stats_json().find("\"submitted\":3") != std::string::npos);
}

} // namespace

int main() {
    CLAIM(answers_outlive_tickets_and_engines);
    CLAIM(handles_move_and_free_once);
    CLAIM(failures_are_thrown_with_their_number);
    CLAIM(waits_that_are_too_short_are_empty);
    CLAIM(functions_are_called_once_and_may_throw);
    CLAIM(batches_give_a_ticket_each);
    return 0;
}
