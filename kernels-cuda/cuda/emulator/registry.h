// Kernels by name, and how arguments reach them: as `cuLaunchKernel` passes them, an array of pointers to values.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

namespace emulator {

using Call = std::function<void(void **)>;

inline std::map<std::string, Call> &kernels() {
    static std::map<std::string, Call> all;
    return all;
}

struct Registered {
    template <class... Parameters> Registered(const char *name, void (*kernel)(Parameters...)) {
        kernels()[name] = [kernel](void **arguments) { call(kernel, arguments, std::index_sequence_for<Parameters...>{}); };
    }

  private:
    template <class... Parameters, std::size_t... I>
    static void call(void (*kernel)(Parameters...), void **arguments, std::index_sequence<I...>) {
        kernel(*static_cast<std::decay_t<Parameters> *>(arguments[I])...);
    }
};

} // namespace emulator
