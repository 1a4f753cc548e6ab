// Elementary functions over the vectors of vec_avx2.h or vec_avx512.h: include one of them first.
#pragma once

namespace hysparse::cpu {
namespace {

// e^x: x = n ln 2 + r, |r| <= ln 2 / 2, ln 2 in two parts; the polynomial is e^r's Taylor series to r^7, whose next
// term is below 2^-27. Saturates to 0 and infinity; NaN stays NaN (Min and Max return their second operand).
inline Vec Exp(Vec x) {
  x = Min(Set(89.0f), Max(Set(-104.0f), x));
  const Vec n = Round(Mul(x, Set(0x1.715476p+0f)));
  Vec r = Fma(n, Set(-0x1.62e4p-1f), x);
  r = Fma(n, Set(-0x1.7f7d1cp-20f), r);
  Vec y = Set(1.0f / 5040);
  y = Fma(y, r, Set(1.0f / 720));
  y = Fma(y, r, Set(1.0f / 120));
  y = Fma(y, r, Set(1.0f / 24));
  y = Fma(y, r, Set(1.0f / 6));
  y = Fma(y, r, Set(0.5f));
  y = Fma(y, r, Set(1.0f));
  y = Fma(y, r, Set(1.0f));
  return Scale(y, n);
}

inline Vec Sigmoid(Vec x) { return Div(Set(1.0f), Add(Set(1.0f), Exp(Sub(Set(0.0f), x)))); }

// cos x and sin x for |x| up to some 1e9: x = k π/2 + r with π/2 in two parts, then the Taylor series of both, whose
// remainders are below 2^-40 for |r| <= π/4.
inline void CosSin(Doubles x, Doubles& cos, Doubles& sin) {
  const Doubles k = RoundD(MulD(x, SetD(0x1.45f306dc9c883p-1)));
  Doubles r = FmaD(k, SetD(-0x1.921fb54442d18p+0), x);
  r = FmaD(k, SetD(-0x1.1a62633145c07p-54), r);
  const Doubles z = MulD(r, r);
  Doubles s = SetD(-1.0 / 39916800);
  s = FmaD(s, z, SetD(1.0 / 362880));
  s = FmaD(s, z, SetD(-1.0 / 5040));
  s = FmaD(s, z, SetD(1.0 / 120));
  s = FmaD(s, z, SetD(-1.0 / 6));
  s = FmaD(MulD(s, z), r, r);
  Doubles c = SetD(1.0 / 479001600);
  c = FmaD(c, z, SetD(-1.0 / 3628800));
  c = FmaD(c, z, SetD(1.0 / 40320));
  c = FmaD(c, z, SetD(-1.0 / 720));
  c = FmaD(c, z, SetD(1.0 / 24));
  c = FmaD(c, z, SetD(-0.5));
  c = FmaD(c, z, SetD(1.0));
  // k mod 4, as two bits b1 b0: odd quarters swap cos and sin; cos changes sign in quarters 1 and 2, sin in 2 and 3.
  const Doubles b1 = FmaD(FloorD(MulD(k, SetD(0.25))), SetD(-2.0), FloorD(MulD(k, SetD(0.5))));
  const Doubles b0 = FmaD(FloorD(MulD(k, SetD(0.5))), SetD(-2.0), k);
  const Doubles swapped_c = ChooseD(b0, s, c), swapped_s = ChooseD(b0, c, s);
  const Doubles sin_sign = FmaD(b1, SetD(-2.0), SetD(1.0));
  const Doubles cos_sign = MulD(sin_sign, FmaD(b0, SetD(-2.0), SetD(1.0)));
  cos = MulD(swapped_c, cos_sign);
  sin = MulD(swapped_s, sin_sign);
}

}  // namespace
}  // namespace hysparse::cpu
