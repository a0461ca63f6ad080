//! Modules: images are checked as a driver would, and then the kernel of the same name that was built into this library
//! runs in place of the image's.
//!
//! A cubin is an ELF file. Which architecture it is for is in the header's flags; whether for its features alone (sm_90a)
//! or its family (sm_100f), in the toolkit's note. Both were read off cubins of CUDA 13.5 and of older toolkits.

#include "driver.h"

#include <cstring>
#include <elf.h>
#include <string_view>

namespace simt {

namespace {

constexpr unsigned EM_CUDA_MACHINE = 190;

struct Image {
    unsigned arch = 0;
    char suffix = '\0'; // 'a', 'f' or none
    bool lists_symbols = false;
    std::set<std::string> symbols;
};

/// The suffix in "-arch sm_90a" of a note's strings.
char suffix_in(std::string_view note) {
    const size_t at = note.find("-arch sm_");
    if (at == std::string_view::npos) return '\0';
    const size_t end = note.find_first_not_of("0123456789", at + 9);
    return end != std::string_view::npos && (note[end] == 'a' || note[end] == 'f') ? note[end] : '\0';
}

/// False where it is no cubin. The driver is not told how long an image is, and trusts its header as this does.
bool parse(const u8* data, Image& image) {
    Elf64_Ehdr header;
    std::memcpy(&header, data, SELFMAG);
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return false;
    std::memcpy(&header, data, sizeof header);
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_CUDA_MACHINE) return false;
    if (header.e_ident[EI_ABIVERSION] >= 8) {
        image.arch = (header.e_flags >> 8u) & 0xffu; // CUDA 13
    } else {
        image.arch = header.e_flags & 0xffu; // CUDA 12
        if ((header.e_flags & 0x800u) != 0) image.suffix = 'a';
    }
    const auto section = [&](size_t i) {
        Elf64_Shdr s;
        std::memcpy(&s, data + header.e_shoff + i * sizeof s, sizeof s);
        return s;
    };
    for (size_t i = 0; header.e_shoff != 0 && i < header.e_shnum; i++) {
        const Elf64_Shdr s = section(i);
        const char* bytes = reinterpret_cast<const char*>(data) + s.sh_offset;
        if (s.sh_type == SHT_NOTE) {
            if (const char suffix = suffix_in({bytes, s.sh_size}); suffix != '\0') image.suffix = suffix;
        }
        if (s.sh_type != SHT_SYMTAB) continue;
        image.lists_symbols = true;
        const char* names = reinterpret_cast<const char*>(data) + section(s.sh_link).sh_offset;
        for (size_t k = 0; k < s.sh_size / sizeof(Elf64_Sym); k++) {
            Elf64_Sym symbol;
            std::memcpy(&symbol, bytes + k * sizeof symbol, sizeof symbol);
            if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC) image.symbols.insert(names + symbol.st_name);
        }
    }
    return true;
}

/// Cubins run on later devices of their generation, those of features on their own only, a family's on its later members.
bool fits(const Image& image, unsigned arch) {
    if (image.suffix == 'a') return arch == image.arch;
    return arch / 10 == image.arch / 10 && arch >= image.arch;
}

CUfunc_st* live(CUfunction function) { return driver().functions.count(function) != 0 ? function : nullptr; }

} // namespace

} // namespace simt

using namespace simt;

CUDA_API cuModuleLoadData(CUmodule* module, const void* data) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    if (module == nullptr || data == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult r = call.forbid_in_capture(); r != CUDA_SUCCESS) return r;
    Image image;
    if (!parse(static_cast<const u8*>(data), image)) {
        explain("cuModuleLoadData: the image is no cubin");
        return CUDA_ERROR_INVALID_IMAGE;
    }
    if (!fits(image, options().arch)) {
        explain("cuModuleLoadData: a cubin for sm_%u%c on sm_%u", image.arch, image.suffix != '\0' ? image.suffix : ' ',
                options().arch);
        return CUDA_ERROR_NO_BINARY_FOR_GPU;
    }
    auto* loaded = new CUmod_st;
    loaded->context = call.context;
    loaded->lists_symbols = image.lists_symbols;
    loaded->symbols = std::move(image.symbols);
    call.context->modules.insert(loaded);
    *module = loaded;
    return CUDA_SUCCESS;
}

CUDA_API cuModuleLoadDataEx(CUmodule* module, const void* data, unsigned, CUjit_option*, void**) {
    return cuModuleLoadData(module, data); // the options are for PTX
}

CUDA_API cuModuleUnload(CUmodule module) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    if (call.context->modules.erase(module) == 0) return CUDA_ERROR_INVALID_HANDLE;
    const CUresult completed = call.complete_all();
    for (auto& [name, function] : module->functions) driver().functions.erase(function.get());
    delete module;
    return completed;
}

CUDA_API cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    if (function == nullptr || name == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (call.context->modules.count(module) == 0) return CUDA_ERROR_INVALID_HANDLE;
    if (module->lists_symbols && module->symbols.count(name) == 0) return CUDA_ERROR_NOT_FOUND;
    const Entry* entry = find_entry(name);
    if (entry == nullptr) {
        explain("cuModuleGetFunction: %s is not among the kernels that this library was built from", name);
        return CUDA_ERROR_NOT_FOUND;
    }
    std::unique_ptr<CUfunc_st>& known = module->functions[name];
    if (known == nullptr) {
        known = std::make_unique<CUfunc_st>();
        known->module = module;
        known->entry = entry;
        driver().functions.insert(known.get());
    }
    *function = known.get();
    return CUDA_SUCCESS;
}

CUDA_API cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    CUfunc_st* function = live(handle);
    if (function == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
        if (value < 0 || u32(value) > shared_limit()) {
            return invalid("%s: %d bytes of shared memory, of which sm_%u has %u", function->entry->name, value, options().arch,
                           shared_limit());
        }
        function->max_dynamic_shared = value;
        return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
        return value >= -1 && value <= 100 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    default: return invalid("cuFuncSetAttribute: attribute %d cannot be set", int(attribute));
    }
}

CUDA_API cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction handle) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    CUfunc_st* function = live(handle);
    if (function == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const Entry& entry = *function->entry;
    switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = int(entry.threads); return CUDA_SUCCESS;
    // Registers are not simulated: as many as the launch bounds leave, in steps of eight.
    case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = int(std::min(255u, 65536u / (entry.threads * entry.blocks) / 8 * 8)); return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
    case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES: *value = 0; return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION: *value = int(options().arch); return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = function->max_dynamic_shared; return CUDA_SUCCESS;
    default: return invalid("cuFuncGetAttribute: attribute %d is not simulated", int(attribute));
    }
}

extern "C" __attribute__((visibility("default"))) int simt_entry(const char* name, unsigned* threads, unsigned* shared_bytes,
                                                                 unsigned* args_bytes) {
    const Entry* entry = find_entry(name);
    if (entry == nullptr) return 0;
    *threads = entry->threads;
    *shared_bytes = entry->shared_bytes;
    *args_bytes = entry->args_bytes;
    return 1;
}
