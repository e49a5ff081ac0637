/*
 * A shared object that is no plug-in: it lacks the entry symbol.
 */
__attribute__((visibility("default"))) int fm_mute(void);

int fm_mute(void)
{
    return 0;
}
