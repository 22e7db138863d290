package main

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"asid-authz/authz"
)

// The values of the audit settings.
type (
	AllowsValue string
	OnFullValue string
)

// A SizeValue is a number of bytes.
type SizeValue struct {
	Bytes   int64
	written bool // it is no default
}

// A NumberValue is a number from 1 to a million.
type NumberValue struct {
	N       int
	written bool // it is no default
}

// String returns the number as it is written down.
func (v NumberValue) String() string { return strconv.Itoa(v.N) }

func (v *AllowsValue) UnmarshalYAML(n *yaml.Node) error {
	return oneOf(n, v, map[string]AllowsValue{"all": "all", "sampled": "sampled", "none": "none"}, "all, sampled or none")
}

func (v *OnFullValue) UnmarshalYAML(n *yaml.Node) error {
	return oneOf(n, v, map[string]OnFullValue{"drop": "drop", "deny": "deny"}, "drop or deny")
}

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

func (v *SizeValue) UnmarshalYAML(n *yaml.Node) error {
	for _, unit := range sizeUnits {
		number, is := strings.CutSuffix(scalar(n), unit.name)
		if count, ok := parseCount(number); is && ok {
			*v = SizeValue{int64(count) * unit.bytes, true}
			return nil
		}
	}
	return fmt.Errorf("a size is like 64KiB, 100MiB or 1GiB, not %s", authz.Excerpt(scalar(n)))
}

// String returns the size as it is written down.
func (v SizeValue) String() string {
	for _, unit := range sizeUnits {
		if v.Bytes%unit.bytes == 0 {
			return strconv.FormatInt(v.Bytes/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(v.Bytes, 10)
}

func (v *NumberValue) UnmarshalYAML(n *yaml.Node) error {
	count, ok := parseCount(scalar(n))
	if !ok {
		return fmt.Errorf("this is a number from 1 to 1000000, not %s", authz.Excerpt(scalar(n)))
	}
	*v = NumberValue{count, true}
	return nil
}

// parseCount takes digits alone: no sign, no zero in front.
func parseCount(text string) (int, bool) {
	count, err := strconv.Atoi(text)
	return count, err == nil && count >= 1 && count <= 1_000_000 && strconv.Itoa(count) == text
}
