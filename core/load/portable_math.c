/*
 * Logarithm and exponential from their series. See portable_math.h. Pure.
 */
#include "core/load/portable_math.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* ln 2 in two pieces; the first has 32 significant bits, so that small integers times it are exact.
 */
#define LN2_HIGH 0x1.62e42feep-1
#define LN2_LOW  0x1.a39ef35793c76p-33

/*
 * HOW IT WORKS. value = 2^e * m with m in [sqrt(1/2), sqrt(2)); ln m = 2 artanh(s) with
 * s = (m - 1)/(m + 1), whose series s + s^3/3 + s^5/5 + ... is cut where a term is below 2^-56.
 * Even and odd terms are summed apart: two short chains run side by side in the processor.
 */
double fm_portable_log(double value)
{
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(bits));
    /* Adding the distance from sqrt(1/2)'s fraction to 1 carries into the exponent where m would
     * reach sqrt(2). */
    uint64_t shifted = bits + (UINT64_C(0x3ff0000000000000) - UINT64_C(0x3fe6a09e667f3bcd));
    double exponent = (double)(int32_t)((int32_t)(shifted >> 52) - 1023);
    bits = (shifted & UINT64_C(0x000fffffffffffff)) + UINT64_C(0x3fe6a09e667f3bcd);
    double m = 0;
    memcpy(&m, &bits, sizeof(m));
    double f = m - 1.0;
    double s = f / (m + 1.0);
    double z = s * s;
    double w = z * z;
    double even = 1.0 / 5 + w * (1.0 / 9 + w * (1.0 / 13 + w * (1.0 / 17 + w * (1.0 / 21))));
    double odd = 1.0 / 3 + w * (1.0 / 7 + w * (1.0 / 11 + w * (1.0 / 15 + w * (1.0 / 19))));
    double tail = z * odd + w * even;
    double low = 2.0 * s * tail + exponent * LN2_LOW;
    return exponent * LN2_HIGH + (2.0 * s + low);
}

double fm_portable_exp(double value)
{
    if (value < -700.0) {
        return 0.0;
    }
    double count = floor(value * 0x1.71547652b82fep+0 + 0.5); /* times 1/ln 2 */
    double rest = (value - count * LN2_HIGH) - count * LN2_LOW;
    /* |rest| is at most ln(2)/2: the series is cut where a term is below 2^-57. */
    static const double coefficients[] = {
        1.0 / 87178291200,
        1.0 / 6227020800,
        1.0 / 479001600,
        1.0 / 39916800,
        1.0 / 3628800,
        1.0 / 362880,
        1.0 / 40320,
        1.0 / 5040,
        1.0 / 720,
        1.0 / 120,
        1.0 / 24,
        1.0 / 6,
        1.0 / 2,
        1.0,
        1.0,
    };
    double sum = 0.0;
    for (size_t i = 0; i < sizeof(coefficients) / sizeof(coefficients[0]); i++) {
        sum = sum * rest + coefficients[i];
    }
    return ldexp(sum, (int)count);
}
