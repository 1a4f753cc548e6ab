# Targets of this project, with the dependency direction base <- kernels <- engine <- server enforced by the build: each
# layer compiles against a view of the source tree that holds only the folders it may include, so that an include that
# points the wrong way does not compile.

function(hysparse_view layer)
  set(view ${CMAKE_BINARY_DIR}/views/${layer})
  foreach(folder ${ARGN})
    get_filename_component(parent ${view}/${folder} DIRECTORY)
    file(MAKE_DIRECTORY ${parent})
    file(CREATE_LINK ${CMAKE_SOURCE_DIR}/${folder} ${view}/${folder} SYMBOLIC)
  endforeach()
endfunction()

hysparse_view(base engine/base)
hysparse_view(kernels engine/base kernels)
hysparse_view(engine engine kernels)
hysparse_view(server engine kernels server)

# hysparse_library(NAME LAYER base|kernels|engine|server [SOURCES files…; default: every .cc of the folder] [LINK targets…])
function(hysparse_library name)
  cmake_parse_arguments(ARG "" "LAYER" "SOURCES;LINK" ${ARGN})
  if(NOT ARG_SOURCES)
    file(GLOB ARG_SOURCES CONFIGURE_DEPENDS *.cc)
  endif()
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_BINARY_DIR}/views/${ARG_LAYER})
  target_compile_options(${name} PRIVATE -Wall -Wextra -Werror)
  target_link_libraries(${name} PUBLIC ${ARG_LINK} Threads::Threads absl::status absl::statusor absl::strings)
endfunction()

# What `tests/run.sh` runs of a preset.
add_custom_target(unit_tests)

# hysparse_test(NAME LINK targets…): one GoogleTest binary of every *_test.cc in the folder.
function(hysparse_test name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS *.cc)
  add_executable(${name} ${sources})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_compile_definitions(${name} PRIVATE HYSPARSE_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  target_compile_options(${name} PRIVATE -Wall -Wextra -Werror)
  # The sanitizer presets look for undefined behaviour in the libraries; instrumenting the assertions too doubles the build.
  target_compile_options(${name} PRIVATE $<$<CONFIG:Debug>:-fno-sanitize=undefined>)
  target_link_libraries(${name} PRIVATE ${ARG_LINK} GTest::gtest GTest::gmock GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name})
  add_dependencies(unit_tests ${name})
endfunction()
