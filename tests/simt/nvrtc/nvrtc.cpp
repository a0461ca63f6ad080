//! A stand-in for NVRTC, so that the path from a kernel's source to a launch is tested where there is no compiler: it gives
//! the simulated driver cubins that are nothing but a header for the right architecture.
//!
//! It reads a source no further than its includes, each of which must have been handed in. Whether the kernels compile is
//! tested with NVIDIA's own compiler, where there is one. SIMT_NVRTC is its version (13.999, which no real one has:
//! a cache of compiled kernels must not take the one for the other), SIMT_NVRTC_FAILS a text that
//! makes the compilation of every source that contains it fail.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <elf.h>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace {

enum nvrtcResult {
    NVRTC_SUCCESS = 0,
    NVRTC_ERROR_INVALID_INPUT = 3,
    NVRTC_ERROR_INVALID_PROGRAM = 4,
    NVRTC_ERROR_INVALID_OPTION = 5,
    NVRTC_ERROR_COMPILATION = 6,
};

struct Program {
    std::string name;
    std::string source;
    std::map<std::string, std::string> headers;
    std::string log;
    std::vector<char> cubin;
};

struct Version {
    int major;
    int minor;
};

Version version() {
    const char* text = std::getenv("SIMT_NVRTC");
    if (text == nullptr || *text == '\0') return {13, 999};
    char* rest = nullptr;
    const long major = std::strtol(text, &rest, 10);
    return {int(major), *rest == '.' ? std::atoi(rest + 1) : 0};
}

/// What each version knows: 12.0 added Hopper and Ada, 12.8 Blackwell, 13.0 left out what is before Turing.
std::vector<int> architectures() {
    const Version v = version();
    std::vector<int> all;
    if (v.major < 13) all = {50, 52, 53, 60, 61, 62, 70, 72};
    for (const int arch : {75, 80, 86, 87, 89, 90}) all.push_back(arch);
    if (v.major > 12 || v.minor >= 8) {
        for (const int arch : {100, 120}) all.push_back(arch);
    }
    if (v.major > 12 || v.minor >= 9) {
        for (const int arch : {103, 121}) all.push_back(arch);
    }
    return all;
}

/// Walks over the includes; false and a line in the log where one was not handed in.
bool check_includes(Program& program, const std::string& name, const std::string& text, std::set<std::string>& seen) {
    for (size_t at = text.find("#include"); at != std::string::npos; at = text.find("#include", at + 1)) {
        const size_t open = text.find_first_of("<\"\n", at);
        const size_t close = open == std::string::npos ? open : text.find_first_of(">\"\n", open + 1);
        if (close == std::string::npos || text[open] == '\n' || text[close] == '\n') continue;
        const std::string header = text.substr(open + 1, close - open - 1);
        if (!seen.insert(header).second) continue;
        const auto found = program.headers.find(header);
        if (found == program.headers.end()) {
            program.log += name + ": catastrophic error: cannot open source file \"" + header + "\"\n";
            return false;
        }
        if (!check_includes(program, header, found->second, seen)) return false;
    }
    return true;
}

/// The number and suffix of sm_90a in an option, or false.
bool read_architecture(const std::string& option, unsigned* number, char* suffix) {
    for (const char* prefix : {"--gpu-architecture=sm_", "-arch=sm_"}) {
        if (option.compare(0, std::strlen(prefix), prefix) != 0) continue;
        char* rest = nullptr;
        *number = unsigned(std::strtoul(option.c_str() + std::strlen(prefix), &rest, 10));
        *suffix = *rest;
        return *rest == '\0' || ((*rest == 'a' || *rest == 'f') && rest[1] == '\0');
    }
    return false;
}

/// An ELF header for the architecture, and the note that compilers leave, in which the suffix is.
std::vector<char> make_cubin(unsigned arch, char suffix) {
    const std::string note = "-arch sm_" + std::to_string(arch) + std::string(suffix != '\0' ? 1 : 0, suffix) + " ";
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_ident[EI_OSABI] = 0x41;
    header.e_ident[EI_ABIVERSION] = 8;
    header.e_type = ET_EXEC;
    header.e_machine = 190;
    header.e_version = EV_CURRENT;
    header.e_flags = 0x6000004u | arch << 8u;
    header.e_ehsize = sizeof(Elf64_Ehdr);
    header.e_shentsize = sizeof(Elf64_Shdr);
    header.e_shnum = 2; // none, and the note
    header.e_shoff = sizeof(Elf64_Ehdr);
    Elf64_Shdr sections[2]{};
    sections[1].sh_type = SHT_NOTE;
    sections[1].sh_offset = sizeof header + sizeof sections;
    sections[1].sh_size = note.size();
    std::vector<char> image(sizeof header + sizeof sections + note.size());
    std::memcpy(image.data(), &header, sizeof header);
    std::memcpy(image.data() + sizeof header, sections, sizeof sections);
    std::memcpy(image.data() + sizeof header + sizeof sections, note.data(), note.size());
    return image;
}

nvrtcResult compile(Program& program, int count, const char* const* options) {
    program.log.clear();
    program.cubin.clear();
    unsigned arch = 0;
    char suffix = '\0';
    for (int i = 0; i < count; i++) {
        const std::string option = options[i];
        const bool other = option.compare(0, 2, "--") == 0 || option.compare(0, 2, "-D") == 0 || option.compare(0, 2, "-I") == 0;
        if (!read_architecture(option, &arch, &suffix) && !other) {
            program.log = "nvrtc: error: unrecognized option " + option + " found\n";
            return NVRTC_ERROR_INVALID_OPTION;
        }
    }
    bool known = false;
    for (const int each : architectures()) known = known || unsigned(each) == arch;
    if (!known) {
        program.log = "nvrtc: error: invalid value for --gpu-architecture (-arch)\n";
        return NVRTC_ERROR_INVALID_OPTION;
    }
    const char* fails = std::getenv("SIMT_NVRTC_FAILS");
    if (fails != nullptr && *fails != '\0' && program.source.find(fails) != std::string::npos) {
        program.log = program.name + "(1): error: SIMT_NVRTC_FAILS asks for this\n";
        return NVRTC_ERROR_COMPILATION;
    }
    std::set<std::string> seen;
    if (!check_includes(program, program.name, program.source, seen)) return NVRTC_ERROR_COMPILATION;
    program.cubin = make_cubin(arch, suffix);
    return NVRTC_SUCCESS;
}

} // namespace

#define NVRTC_API extern "C" __attribute__((visibility("default"))) int

NVRTC_API nvrtcVersion(int* major, int* minor) {
    if (major == nullptr || minor == nullptr) return NVRTC_ERROR_INVALID_INPUT;
    *major = version().major;
    *minor = version().minor;
    return NVRTC_SUCCESS;
}

NVRTC_API nvrtcGetNumSupportedArchs(int* count) {
    if (count == nullptr) return NVRTC_ERROR_INVALID_INPUT;
    *count = int(architectures().size());
    return NVRTC_SUCCESS;
}

NVRTC_API nvrtcGetSupportedArchs(int* list) {
    if (list == nullptr) return NVRTC_ERROR_INVALID_INPUT;
    for (const int arch : architectures()) *list++ = arch;
    return NVRTC_SUCCESS;
}

NVRTC_API nvrtcCreateProgram(void** program, const char* source, const char* name, int count, const char* const* headers,
                             const char* const* names) {
    if (program == nullptr || source == nullptr || count < 0) return NVRTC_ERROR_INVALID_INPUT;
    auto* made = new Program;
    made->name = name == nullptr ? "default_program" : name;
    made->source = source;
    for (int i = 0; i < count; i++) made->headers[names[i]] = headers[i];
    *program = made;
    return NVRTC_SUCCESS;
}

NVRTC_API nvrtcDestroyProgram(void** program) {
    if (program == nullptr || *program == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
    delete static_cast<Program*>(*program);
    *program = nullptr;
    return NVRTC_SUCCESS;
}

NVRTC_API nvrtcCompileProgram(void* program, int count, const char* const* options) {
    return program == nullptr ? NVRTC_ERROR_INVALID_PROGRAM : compile(*static_cast<Program*>(program), count, options);
}

NVRTC_API nvrtcGetCUBINSize(void* program, size_t* size) {
    if (program == nullptr || size == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
    *size = static_cast<Program*>(program)->cubin.size();
    return NVRTC_SUCCESS;
}

NVRTC_API nvrtcGetCUBIN(void* program, char* cubin) {
    if (program == nullptr || cubin == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
    const auto& image = static_cast<Program*>(program)->cubin;
    std::memcpy(cubin, image.data(), image.size());
    return NVRTC_SUCCESS;
}

NVRTC_API nvrtcGetProgramLogSize(void* program, size_t* size) {
    if (program == nullptr || size == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
    *size = static_cast<Program*>(program)->log.size() + 1;
    return NVRTC_SUCCESS;
}

NVRTC_API nvrtcGetProgramLog(void* program, char* log) {
    if (program == nullptr || log == nullptr) return NVRTC_ERROR_INVALID_PROGRAM;
    std::strcpy(log, static_cast<Program*>(program)->log.c_str());
    return NVRTC_SUCCESS;
}
