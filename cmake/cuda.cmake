# The module _cuda. nvcc compiles the kernels and never sees pybind11; the bindings are compiled as all others.
include(CheckLanguage)
if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
  # An nvcc that pip installed.
  execute_process(
    COMMAND ${Python_EXECUTABLE} -c "import importlib.util as u, pathlib as p; s = u.find_spec('nvidia')
for f in (s.submodule_search_locations if s else ()):
  for nvcc in p.Path(f).glob('cu*/bin/nvcc'): print(nvcc)"
    OUTPUT_VARIABLE wheel_nvcc OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  string(REGEX REPLACE "\n.*" "" wheel_nvcc "${wheel_nvcc}")
  if(wheel_nvcc AND (SOFTMAP_CUDA STREQUAL "wheels" OR SOFTMAP_CUDA STREQUAL "ON"))
    set(CMAKE_CUDA_COMPILER ${wheel_nvcc})
    cmake_path(GET wheel_nvcc PARENT_PATH folder)
    cmake_path(GET folder PARENT_PATH CUDAToolkit_ROOT)
    string(APPEND CMAKE_CUDA_FLAGS " -L${CUDAToolkit_ROOT}/lib")  # nvcc itself looks in lib64
  elseif(SOFTMAP_CUDA STREQUAL "wheels")
    message(FATAL_ERROR "SOFTMAP_CUDA=wheels, but ${Python_EXECUTABLE} lacks the package cuda-toolkit[nvcc]; pip gets it for its build "
                        "where SOFTMAP_CUDA=wheels is in the environment")
  endif()
endif()
# AUTO goes on without what cannot be had.
macro(softmap_no_cuda)
  if(NOT SOFTMAP_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "SOFTMAP_CUDA=${SOFTMAP_CUDA}, but " ${ARGN})
  endif()
  message(STATUS "softmap: no CUDA backend: " ${ARGN})
  return()
endmacro()

if(SOFTMAP_SANITIZE)
  softmap_no_cuda("nvcc's objects know no sanitizers")
endif()
if(NOT CMAKE_CUDA_COMPILER)
  check_language(CUDA)
endif()
if(NOT CMAKE_CUDA_COMPILER)
  softmap_no_cuda("there is no nvcc that works (on PATH or as CUDACXX, with a C++ compiler that it accepts as CUDAHOSTCXX)")
endif()
cmake_path(GET CMAKE_CUDA_COMPILER PARENT_PATH folder)
if(NOT IS_ABSOLUTE "${folder}")
  find_program(nvcc_path ${CMAKE_CUDA_COMPILER} NO_CACHE)
  cmake_path(GET nvcc_path PARENT_PATH folder)
endif()

# Without a list: the GPUs of this machine, else what runs on every one from sm_80 on.
if(NOT SOFTMAP_CUDA_ARCHITECTURES)
  execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader OUTPUT_VARIABLE found ERROR_QUIET)
  string(REGEX MATCHALL "[0-9]+\\.[0-9]" found "${found}")
  list(REMOVE_DUPLICATES found)
  list(TRANSFORM found REPLACE "\\." "")
  list(FILTER found EXCLUDE REGEX "^[1-7].$")
  set(SOFTMAP_CUDA_ARCHITECTURES ${found})
  if(NOT found)
    set(SOFTMAP_CUDA_ARCHITECTURES 80-real 90)
  endif()
endif()
message(STATUS "softmap: CUDA backend for ${SOFTMAP_CUDA_ARCHITECTURES}")
set(CMAKE_CUDA_ARCHITECTURES ${SOFTMAP_CUDA_ARCHITECTURES})
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
# Fused multiply-add only where the code says so, as everywhere: the sums of a fit that are exact would not be.
set(cuda_options -fmad=false --compress-mode=size)

# An nvcc that is too old for this, or refuses the C++ compiler, is found out before anything depends on it.
file(CONFIGURE OUTPUT probe.cu CONTENT "#include \"cuda/device.h\"\n#include \"core/logistic.h\"
__global__ void probe(double* x) { *x = softmap::core::sigmoid(*x); }\n")
set(architectures "")
foreach(architecture IN LISTS SOFTMAP_CUDA_ARCHITECTURES)
  string(REGEX REPLACE "-.*" "" number ${architecture})
  list(APPEND architectures -gencode=arch=compute_${number},code=sm_${number})
endforeach()
if(CMAKE_CUDA_HOST_COMPILER)
  list(APPEND architectures -ccbin=${CMAKE_CUDA_HOST_COMPILER})
elseif(DEFINED ENV{CUDAHOSTCXX})
  list(APPEND architectures -ccbin=$ENV{CUDAHOSTCXX})
endif()
execute_process(
  COMMAND ${CMAKE_CUDA_COMPILER} -std=c++20 ${cuda_options} ${architectures} -I${CMAKE_CURRENT_SOURCE_DIR}/csrc -c
          ${CMAKE_CURRENT_BINARY_DIR}/probe.cu -o ${CMAKE_CURRENT_BINARY_DIR}/probe.o
  RESULT_VARIABLE failed OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(failed)
  softmap_no_cuda("${CMAKE_CUDA_COMPILER} cannot compile for it (that of CUDA 13.0 can):\n${output}")
endif()
file(REAL_PATH ${folder}/.. toolkit)
find_library(SOFTMAP_CUDART cudart_static
  HINTS ${toolkit}/lib ${toolkit}/lib64 ${toolkit}/targets/x86_64-linux/lib ${toolkit}/targets/sbsa-linux/lib)
enable_language(CUDA)
if(NOT SOFTMAP_CUDART)
  find_library(SOFTMAP_CUDART cudart_static
    HINTS ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES} ${CMAKE_CUDA_HOST_IMPLICIT_LINK_DIRECTORIES})
endif()
if(NOT SOFTMAP_CUDART)
  softmap_no_cuda("there is no libcudart_static.a beside ${CMAKE_CUDA_COMPILER}")
endif()

list(TRANSFORM cuda_kernels REPLACE "(.+)" "csrc/cuda/\\1.cu" OUTPUT_VARIABLE cuda_sources)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # which CMake 3.25 does not know
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA_STANDARD_LATEST 20)
endif()
add_library(softmap_cuda_kernels OBJECT ${cuda_sources})
set_target_properties(softmap_cuda_kernels PROPERTIES CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON)
target_include_directories(softmap_cuda_kernels PRIVATE csrc)
target_compile_definitions(softmap_cuda_kernels PRIVATE SOFTMAP_BACKEND=cuda)
target_compile_options(softmap_cuda_kernels PRIVATE ${cuda_options} --threads=2 -Xcompiler=-Wall,-Wextra)
if(SOFTMAP_WERROR)
  target_compile_options(softmap_cuda_kernels PRIVATE -Werror=all-warnings "SHELL:-Xptxas -warn-spills")
endif()

softmap_module(_cuda csrc/bindings/module.cpp ${cuda_bindings})
target_compile_definitions(_cuda PRIVATE SOFTMAP_BACKEND=cuda SOFTMAP_DEVICE SOFTMAP_MODULE=_cuda)
# Only the static runtime, which finds the driver at run time: importing needs neither.
set_target_properties(_cuda PROPERTIES LINKER_LANGUAGE CXX)
target_link_libraries(_cuda PRIVATE softmap_cuda_kernels ${SOFTMAP_CUDART} ${CMAKE_DL_LIBS} rt)
target_link_options(_cuda PRIVATE -Wl,--exclude-libs,ALL)
