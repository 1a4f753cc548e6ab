#include "kernels/cpu/sample_scan_body.h"

namespace hysparse::cpu {

const ScanOps kScanAvx2 = {BlockMax, Weights, Above, Keep};

}  // namespace hysparse::cpu
