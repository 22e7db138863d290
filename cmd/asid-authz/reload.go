package main

import (
	"fmt"
	"reflect"
	"strings"
)

// What a changed value of a setting does while the service runs stands beside each
// setting, or beside its group, as the tag "change".
const (
	changeReload  = "reload"  // a new generation decides by it
	changeRestart = "restart" // what the process was started with stays in force
)

// changeOf returns what a change of the field does; group is what one of its group does.
func changeOf(field reflect.StructField, group string) string {
	if own := field.Tag.Get("change"); own != "" {
		return own
	}
	return group
}

// A pendingChange is a setting that was changed in vain.
type pendingChange struct {
	key              string // as in the documentation: map.redis.addresses
	inForce, written string
}

// keepProcessSettings puts what is in force for the process in the place of what c says
// about it, and returns what differs. Whoever reads a generation's configuration so finds
// what is done, and not what somebody wishes.
func (c *Config) keepProcessSettings(inForce *Config) []pendingChange {
	var all []pendingChange
	keepSettings(&all, "", "", reflect.ValueOf(c).Elem(), reflect.ValueOf(inForce).Elem())
	return all
}

func keepSettings(all *[]pendingChange, prefix, group string, c, inForce reflect.Value) {
	for i := range c.NumField() {
		field := c.Type().Field(i)
		key := field.Tag.Get("yaml")
		if key == "" {
			continue
		}
		change := changeOf(field, group)
		is, was := c.Field(i), inForce.Field(i)
		switch {
		case isGroup(field.Type):
			keepSettings(all, prefix+key+".", change, is, was)
		case change != changeRestart:
		case field.Type.Kind() == reflect.Pointer: // a group that may be left out
			if is.IsNil() != was.IsNil() {
				*all = append(*all, pendingChange{prefix + key, setOrNot(was), setOrNot(is)})
			} else if !is.IsNil() {
				keepSettings(all, prefix+key+".", change, is.Elem(), was.Elem())
			}
			is.Set(was)
		default:
			if now, before := settingText(is), settingText(was); now != before {
				*all = append(*all, pendingChange{prefix + key, before, now})
			}
			is.Set(was)
		}
	}
}

// isGroup reports whether a type is a group of settings, and not a value.
func isGroup(t reflect.Type) bool {
	if t.Kind() != reflect.Struct {
		return false
	}
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("yaml") != "" {
			return true
		}
	}
	return false
}

func setOrNot(group reflect.Value) string {
	if group.IsNil() {
		return "not set"
	}
	return "set"
}

// settingText returns a value as it is written down, also a default that was not.
func settingText(value reflect.Value) string {
	if value.Kind() == reflect.Slice {
		all := make([]string, value.Len())
		for i := range all {
			all[i] = fmt.Sprintf("%q", settingText(value.Index(i)))
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	return fmt.Sprint(value.Interface())
}
