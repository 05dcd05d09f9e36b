// Package journal keeps a value for each of many keys on disk: what a node would lose when it is killed or its power
// fails. To it values are bytes; the store puts its sessions, notes and deletions there.
//
// # From a change to the disk
//
// [Journal.Set] and [Journal.Delete] put the change among those that wait, the newest of each key (gather.go), and
// return. Of two keys that change one after the other, the later change may be on disk a round before the other: only
// [Journal.SetAfter] and [Journal.DeleteAfter] promise an order. One goroutine, the writer, takes all that wait at a time (run.go), appends them to a file and forces it to
// disk (writer.go): a round. With Options.Every 0 a round begins as soon as there is a change, and who has to be sure
// waits for the end of his, together with all others who came while the disk was busy ([Journal.Wait]). Else there is
// one round in each interval, so a key that changes ten times in it is written once.
//
// # What is promised
//
//   - After [Journal.Wait] returns nil, the change is forced to disk: it survives kill -9 and a power cut.
//   - Without waiting, so does what is older than Options.Every and the time the disk takes, as long as it is well.
//     [Stats] says how much is not on disk yet.
//   - A change is there whole or not at all. After a crash each key has the last value that was promised, or a later
//     one. A key whose deletion was promised does not come back.
//   - A value that moves from one key to another ([Journal.DeleteAfter]) is under at least one of them.
//   - A disk that is full or fails makes nobody wait: [Journal.Wait] returns the error at once, changes are kept, the
//     newest of each key, and written as soon as the disk takes them; it is tried again after 100 ms to 5 s.
//   - A damaged file is read as far as it is whole, and set aside when that has been written elsewhere; the three
//     newest set-aside directories are kept. A damaged record is as if it had never been written, so the key may have
//     an older value. Only a foreign directory, a newer format, one in use and one without permission are refused.
//   - A journal that was last written more than 30 days ago is set aside as a whole: what was deleted elsewhere since
//     is not remembered any more. One that is in use says so every hour.
//   - On disk there is at most three times what is live, and 24 MiB: tidying begins at two times and 8 MiB.
//
// # The directory
//
// It and the files are for their owner only. "lock" is locked while a process uses the directory. "journal" says
// whose it is (identity.go): format, farm, node, and a random salt of the checksums. "runs" has the number of the last
// run, one more with each (runs.go). The records are in files of 4 to 16 MiB, named by a number that only rises; each begins with a copy of "journal" and then has one record after the
// other (record.go). Each has a number, and of a key's records the one with the highest counts, wherever it is: so a
// file can be read without the others.
//
// The writer knows where the newest record of each key is (segment.go), with about 100 bytes for each key besides the
// key, and 4 for each record. Who changes a key often remembers its place there ([Place]), as the search would cost a fifth of what the
// writer does. When less than half of all bytes are in force, it moves what is in force in the emptiest file to the newest, as part of
// its rounds, and removes that file (tidy.go); one with nothing in force is not read for that. A deletion stays until no older
// value of its key is in any file. A round that failed counts for nothing: its part of the file is cut off, and the next one
// begins a new file, since after an fsync that failed nobody knows what is on disk.
//
// # Why not an embedded database
//
// All values are in memory anyway, are read only at the start, and change or expire within minutes: a log is all
// there is to do. Measured on 2 cores (ext4, Go 1.26; a noisy machine and a slow disk: compare within a
// line only): 100,000 keys with values of 1 to 3 KB, some of 64 KiB and 1 MiB, rewritten twice in forced batches of
// 1,000; "always" is forced batches of 32. badger had a run of its own with half the keys, in which this had 21,500
// and 14,900 records/s.
//
//	                             this    pebble 2.1.7  bbolt 1.5.0  badger 4.9.6
//	records/s                    29,300  13,100        8,300        24,200
//	  always                     12,600  10,100        4,000        7,700
//	bytes written for one given  1.2     3.8           21           1.5
//	  always                     1.4     6.4           109          7.5
//	CPU for a record             10 us   29 us         35 us        13 us
//	p99 of a batch               196 ms  859 ms        433 ms       216 ms
//	disk / live, at the peak     2.1     2.7           1.7          4.5
//	  when half has expired      2.2     3.4           3.8          9.5
//	when the disk is full        waits   exits         waits        SIGBUS
//	modules it brings            0       29            1            13
//	added to an empty program    0.1 MB  15.4 MB       0.4 MB       8.6 MB
//
// bbolt's file never shrinks, and its pages have no checksums. SQLite (modernc.org/sqlite 1.61.1) wrote a tenth of
// the records of a log in the same run, and its file did not shrink either. 100,000 values of 2 KB, with as much
// garbage, were loaded in 0.6 s when the machine was quiet.
package journal
