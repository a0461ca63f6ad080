// Classifies every image of a folder, several at once, and prints one line an image.
//
//     c++ -std=c++17 classify_folder.cpp $(pkg-config --cflags --libs collage) -o classify_folder
//     ./classify_folder FOLDER [MODEL.safetensors]
//
// Without a model, the digits that are embedded in the library are used. Exit status: 0 if every image got an answer.
#include <collage.hpp>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

namespace {

constexpr std::size_t in_flight = 64;

std::vector<char> read_file(const std::filesystem::path &path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

bool classify(const collage::Engine &engine, const std::filesystem::path &folder) {
    std::deque<std::pair<std::string, collage::Ticket>> jobs;
    bool all_answered = true;
    const auto finish = [&] {
        try {
            const collage::Answer answer = jobs.front().second.wait();
            std::cout << jobs.front().first << '\t' << answer.label << '\t' << answer.confidence << '\n';
        } catch (const collage::Error &error) {
            std::cerr << jobs.front().first << ": " << error.what() << '\n';
            all_answered = false;
        }
        jobs.pop_front();
    };
    for (const auto &entry : std::filesystem::directory_iterator(folder)) {
        if (!entry.is_regular_file()) continue;
        if (jobs.size() == in_flight) finish();
        const std::string name = entry.path().filename().string();
        const std::vector<char> bytes = read_file(entry.path());
        try {
            jobs.emplace_back(name, engine.submit(collage::Image::encoded(bytes).name(name)));
        } catch (const collage::Error &error) {
            std::cerr << error.what() << '\n';
            all_answered = false;
        }
    }
    while (!jobs.empty()) finish();
    return all_answered;
}

} // namespace

int main(int argc, char **argv) {
    if (argc < 2 || !std::filesystem::is_directory(argv[1])) {
        std::cerr << "usage: " << argv[0] << " FOLDER [MODEL.safetensors]\n";
        return 2;
    }
    try {
        collage::Options options;
        if (argc > 2) options.model(argv[2]);
        return classify(collage::Engine(options), argv[1]) ? EXIT_SUCCESS : EXIT_FAILURE;
    } catch (const collage::Error &error) {
        std::cerr << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
