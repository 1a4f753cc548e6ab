#include "kernels/cpu/vec_avx512.h"
// The loops are written over the names of the header above.
#include "kernels/cpu/row_ops_body.h"

namespace hysparse::cpu {

const RowOps kRowOpsAvx512 = kRowOps;

}  // namespace hysparse::cpu
