# Takes out of a kernel's log what a test provokes on purpose and what has more than a line; see also console-allowed.

# The partition scan of the block layer tells of memory that failnth has fail.
/failnth: vmalloc error/,/Call Trace:/d
