// Package publish changes the interaction map in Redis, see package layout for how it
// lies there.
//
// # What a change is
//
// Every change is one transaction that ends in a new version and a new entry of the log,
// or in nothing. What it is made on top of is read under WATCH, so of two publishers at
// most one wins; the other hears [ErrConflict] and has written nothing.
//
// A change that fits into one transaction edits the buckets concerned: replicas follow it
// within milliseconds. Before that, the dictionary and every bucket that it touches are
// read whole and compared with the manifest: nobody may make a damaged bucket look good
// by writing a tally that fits it. Any other change writes a new generation beside the
// live one, in paced chunks, and then switches to it in one small transaction. A publisher
// that dies before that leaves the live map untouched; what it leaves behind is named in
// the set of pending generations, and the next change after an hour removes it.
//
// # Versions
//
// The version of a change is the Unix time in milliseconds, or one more than the highest
// version that manifest, log and history know, if that is more. So the first change after
// the server was restored from an old dump rises above everything that any replica has
// seen, unless the publisher's clock is behind.
//
// # Suspensions
//
// A system is active when its entry and the suspension layer both say so. No plan touches
// the layer: what [Publisher.Suspend] did, only [Publisher.Resume] takes back.
package publish
