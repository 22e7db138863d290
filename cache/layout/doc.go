// Package layout is how an interaction map lies in Redis: the names of the keys, the
// bytes in them, and the digests that say whether what was read is whole. It talks to
// nobody. docs/caching.md describes the same byte by byte, for programs that publish
// without this package; the examples there are checked against it.
//
// # Keys
//
// All keys of a map begin with "{NAMESPACE}:1:". The braces are a hash tag: in a Redis
// Cluster they keep a map in one slot, so that one transaction can change all of it.
// The 1 is the layout.
//
//	manifest      hash    what is published: see Manifest
//	log           stream  every change, entry ID VERSION-0: see Change
//	suspended     hash    ASID → Suspension: the layer that no apply lifts
//	history       stream  who changed what when and why, entry ID VERSION-0
//	undo:VERSION  list    what that change replaced
//	pending       set     generations that somebody is writing, or died writing
//	G:ids         list    dictionary of generation G: InteractionIDs by their number
//	G:b:HH        hash    bucket HH of generation G: ASID → entry, see Entry
//
// A system is in the bucket that the first byte of the SHA-256 of its ASID names, in two
// lower-case hexadecimal digits. No key has a time to live: what would vanish by itself
// is no record of who may do what.
//
// # Primitives
//
// A number is an unsigned varint of encoding/binary in its shortest form. A text is its
// length in bytes, a number, and the bytes. A list is its length, a number, and its
// elements.
package layout
