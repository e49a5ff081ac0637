/* Tests of core/util/hash: the published vectors of FNV-1a, pieces, and the weakness the header
 * warns of. */
#include "core/util/hash.h"

#include "tests/harness/test.h"

TEST(published_vectors)
{
    CHECK_UINT_EQ(fm_hash_add(FM_HASH_START, NULL, 0), UINT64_C(0xcbf29ce484222325));
    CHECK_UINT_EQ(fm_hash_add(FM_HASH_START, "a", 1), UINT64_C(0xaf63dc4c8601ec8c));
    CHECK_UINT_EQ(fm_hash_add(FM_HASH_START, "foobar", 6), UINT64_C(0x85944171f73967e8));
}

TEST(pieces_equal_the_whole)
{
    for (size_t split = 0; split <= 6; split++) {
        uint64_t hash = fm_hash_add(FM_HASH_START, "foobar", split);
        hash = fm_hash_add(hash, &"foobar"[split], 6 - split);
        CHECK_UINT_EQ(hash, UINT64_C(0x85944171f73967e8));
    }
}

/* Why it is no proof of integrity: an input that leads to 0, where zero bytes change nothing. */
TEST(an_input_made_for_it_leads_to_zero)
{
    static const unsigned char made[] = {0xd5, 0x6b, 0xb9, 0x53, 0x42, 0x87, 0x08, 0x36, 0, 0};
    for (size_t size = 8; size <= sizeof(made); size++) {
        CHECK_UINT_EQ(fm_hash_add(FM_HASH_START, made, size), 0);
    }
}

TEST_MAIN()
