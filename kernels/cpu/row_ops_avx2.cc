#include "kernels/cpu/vec_avx2.h"
// The loops are written over the names of the header above.
#include "kernels/cpu/row_ops_body.h"

namespace hysparse::cpu {

const RowOps kRowOpsAvx2 = kRowOps;

}  // namespace hysparse::cpu
