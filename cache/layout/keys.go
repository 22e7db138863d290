package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	"asid-authz/authz"
)

// Version is the layout that this package reads and writes.
const Version = 1

// Buckets is into how many hashes the systems are packed: few enough to be read in a few
// round trips, many enough that none is large.
const Buckets = 256

// A Namespace is where a map lies, so that several can lie side by side. The zero
// Namespace is none; [ParseNamespace] makes one.
type Namespace struct{ name string }

// DefaultNamespace is the one that is used where nothing else is said.
var DefaultNamespace = Namespace{"asid-authz"}

const maxNamespace = 64

// ParseNamespace accepts 1 to 64 lower-case letters, digits, dots and dashes: nothing
// that a key, a key pattern or a hash tag could mean something else by.
func ParseNamespace(s string) (Namespace, error) {
	ok := s != "" && len(s) <= maxNamespace
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			ok = false
		}
	}
	if !ok {
		return Namespace{}, fmt.Errorf("a namespace is 1 to %d lower-case letters, digits, dots and dashes, not %s", maxNamespace, authz.Excerpt(s))
	}
	return Namespace{s}, nil
}

// String returns the name, without the hash tag.
func (n Namespace) String() string { return n.name }

func (n Namespace) key(rest string) string {
	return "{" + n.name + "}:" + strconv.Itoa(Version) + ":" + rest
}

// Pattern matches all keys of the map, as ACL rules write it.
func (n Namespace) Pattern() string { return n.key("*") }

// Manifest is the key of the manifest, and the one that every change changes.
func (n Namespace) Manifest() string { return n.key("manifest") }

// Log is the key of the change log.
func (n Namespace) Log() string { return n.key("log") }

// Suspended is the key of the suspension layer.
func (n Namespace) Suspended() string { return n.key("suspended") }

// History is the key of the history.
func (n Namespace) History() string { return n.key("history") }

// Undo is the key of what the change that made version replaced.
func (n Namespace) Undo(version uint64) string {
	return n.key("undo:" + strconv.FormatUint(version, 10))
}

// Pending is the key of the generations that are being written.
func (n Namespace) Pending() string { return n.key("pending") }

// IDs is the key of a generation's dictionary.
func (n Namespace) IDs(generation uint64) string {
	return n.key(strconv.FormatUint(generation, 10) + ":ids")
}

// Bucket is the key of a generation's bucket.
func (n Namespace) Bucket(generation uint64, bucket byte) string {
	return n.key(strconv.FormatUint(generation, 10) + ":b:" + BucketName(bucket))
}

// Generation returns every key of a generation.
func (n Namespace) Generation(generation uint64) []string {
	keys := make([]string, 0, Buckets+1)
	keys = append(keys, n.IDs(generation))
	for b := range Buckets {
		keys = append(keys, n.Bucket(generation, byte(b)))
	}
	return keys
}

// BucketOf returns the bucket that a system is in.
func BucketOf(asid string) byte { return sha256.Sum256([]byte(asid))[0] }

// BucketName returns the two hexadecimal digits of a bucket, by which the manifest knows
// it too.
func BucketName(bucket byte) string { return hex.EncodeToString([]byte{bucket}) }

// LogID returns the ID of the log entry that made version.
func LogID(version uint64) string { return strconv.FormatUint(version, 10) + "-0" }

// ParseLogID returns the version that the log entry of that ID made.
func ParseLogID(id string) (version uint64, err error) {
	if n := len(id) - len("-0"); n > 0 && id[n:] == "-0" {
		version, err = parseNumber(id[:n])
		if err == nil && version != 0 {
			return version, nil
		}
	}
	return 0, fmt.Errorf("the ID of a log entry is VERSION-0, not %s", authz.Excerpt(id))
}

// parseNumber accepts what strconv.FormatUint writes, and no other way to write it.
func parseNumber(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("a number is decimal digits, not %s", authz.Excerpt(s))
	}
	return n, nil
}
