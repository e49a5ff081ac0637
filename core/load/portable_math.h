/*
 * Logarithm and exponential that give the same bits everywhere.
 *
 * Owns: the two functions, from additions, multiplications and divisions only, so that a seed gives
 * the same arrivals with every compiler, C library and processor (the C library's differ in the
 * last bit, also between processors with and without fused multiply-add). Accurate to a few units
 * in the last place; core/load is compiled without contraction of expressions. Thread rule: pure.
 */
#ifndef FM_CORE_LOAD_PORTABLE_MATH_H
#define FM_CORE_LOAD_PORTABLE_MATH_H

/* Natural logarithm of a normal, finite value above 0. */
double fm_portable_log(double value);
/* e to the power of `value`, which is at most 700; below -700: 0. */
double fm_portable_exp(double value);

#endif
