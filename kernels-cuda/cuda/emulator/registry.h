// Kernels by name, and how arguments reach them: as `cuLaunchKernel` passes them, an array of pointers to values.
#pragma once

#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace emulator {

// A kernel and what unpacks its arguments; the kernel's own type is known to `unpack` alone.
struct Call {
    using Any = void (*)();
    Any kernel;
    void (*unpack)(Any, void **);
    unsigned cluster = 0; // blocks, of kernels for Hopper
    std::vector<std::size_t> sizes; // of the parameters, in bytes

    void operator()(void **arguments) const { unpack(kernel, arguments); }
};

inline std::map<std::string, Call> &kernels() {
    static std::map<std::string, Call> all;
    return all;
}

template <class... Parameters, std::size_t... I> void call(Call::Any kernel, void **arguments, std::index_sequence<I...>) {
    reinterpret_cast<void (*)(Parameters...)>(kernel)(*static_cast<std::decay_t<Parameters> *>(arguments[I])...);
}

template <class... Parameters> void unpack(Call::Any kernel, void **arguments) {
    call<Parameters...>(kernel, arguments, std::index_sequence_for<Parameters...>{});
}

__attribute__((noinline)) inline bool add(const char *name, Call call) {
    kernels()[name] = call;
    return true;
}

template <class... Parameters> Call call_of(void (*kernel)(Parameters...), unsigned cluster = 0) {
    return {reinterpret_cast<Call::Any>(kernel), &unpack<Parameters...>, cluster, {sizeof(Parameters)...}};
}

} // namespace emulator
