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
    message(FATAL_ERROR "SOFTMAP_CUDA=wheels, but the packages cuda-toolkit[nvcc,cccl] are not installed for ${Python_EXECUTABLE}")
  endif()
endif()
if(NOT CMAKE_CUDA_COMPILER)
  check_language(CUDA)
endif()
if(NOT CMAKE_CUDA_COMPILER)
  if(NOT SOFTMAP_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "SOFTMAP_CUDA=${SOFTMAP_CUDA}, but no nvcc was found: put it on PATH or set CUDACXX, or set SOFTMAP_CUDA=OFF")
  endif()
  message(STATUS "softmap: no nvcc, so no CUDA backend")
  return()
endif()

set(CMAKE_CUDA_ARCHITECTURES ${SOFTMAP_CUDA_ARCHITECTURES})
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
enable_language(CUDA)

list(TRANSFORM cuda_kernels REPLACE "(.+)" "csrc/cuda/\\1.cu" OUTPUT_VARIABLE cuda_sources)
add_library(softmap_cuda_kernels OBJECT ${cuda_sources})
target_include_directories(softmap_cuda_kernels PRIVATE csrc)
target_compile_definitions(softmap_cuda_kernels PRIVATE SOFTMAP_BACKEND=cuda)
# Fused multiply-add only where the code says so, as everywhere: the sums of a fit that are exact would not be.
target_compile_options(softmap_cuda_kernels PRIVATE -fmad=false --compress-mode=size --threads=2 -Xcompiler=-Wall,-Wextra)
if(SOFTMAP_WERROR)
  target_compile_options(softmap_cuda_kernels PRIVATE -Werror=all-warnings "SHELL:-Xptxas -warn-spills")
endif()

softmap_module(_cuda csrc/bindings/module.cpp ${cuda_bindings})
target_compile_definitions(_cuda PRIVATE SOFTMAP_BACKEND=cuda SOFTMAP_DEVICE SOFTMAP_MODULE=_cuda)
# Only the static runtime, which finds the driver at run time: importing needs neither.
cmake_path(GET CMAKE_CUDA_COMPILER PARENT_PATH folder)
file(REAL_PATH ${folder}/.. toolkit)
find_library(SOFTMAP_CUDART cudart_static REQUIRED
  HINTS ${toolkit}/lib ${toolkit}/lib64 ${toolkit}/targets/x86_64-linux/lib ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES}
        ${CMAKE_CUDA_HOST_IMPLICIT_LINK_DIRECTORIES})
set_target_properties(_cuda PROPERTIES LINKER_LANGUAGE CXX)
target_link_libraries(_cuda PRIVATE softmap_cuda_kernels ${SOFTMAP_CUDART} ${CMAKE_DL_LIBS} rt)
target_link_options(_cuda PRIVATE -Wl,--exclude-libs,ALL)
