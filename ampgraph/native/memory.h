/* What was found before, on this machine and in other processes: a text file of a line each, beside the library. */
#ifndef AMPGRAPH_MEMORY_H
#define AMPGRAPH_MEMORY_H

enum { LONGEST_FOUND = 80 };

/* Whether something is known of a key, a line without tabs; what was noted last is put into `found`. The file is the one
 * that the environment's AMPGRAPH_NATIVE_MEMORY names, none where that is empty. */
int recall(const char *key, char found[LONGEST_FOUND]);

/* Note what was found. Where the file cannot be written nothing is. */
void remember(const char *key, const char *found);

#endif
