package main

import (
	"reflect"
	"slices"
	"testing"

	"asid-authz/cache/layout"
)

// oneSetting is a key of a configuration, with its value, which a test can change.
type oneSetting struct {
	key, change string
	value       reflect.Value
}

// eachSetting returns every setting of a configuration, and makes the groups that are left out.
func eachSetting(prefix, ofGroup string, group reflect.Value) (all []oneSetting) {
	for i := range group.NumField() {
		field := group.Type().Field(i)
		key := field.Tag.Get("yaml")
		if key == "" {
			continue
		}
		change, value := changeOf(field, ofGroup), group.Field(i)
		if value.Kind() == reflect.Pointer && isGroup(value.Type().Elem()) {
			if value.IsNil() {
				value.Set(reflect.New(value.Type().Elem()))
			}
			value = value.Elem()
		}
		if isGroup(value.Type()) {
			all = append(all, eachSetting(prefix+key+".", change, value)...)
		} else {
			all = append(all, oneSetting{prefix + key, change, value})
		}
	}
	return all
}

// alter changes a value, whatever its type is.
func alter(v reflect.Value) {
	if v.Type() == reflect.TypeFor[NamespaceValue]() { // has no values but those that are parsed
		another, err := layout.ParseNamespace("another")
		if err != nil {
			panic(err)
		}
		v.Set(reflect.ValueOf(NamespaceValue{another}))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Uint8:
		v.SetUint(v.Uint() + 1)
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Struct:
		alter(v.Field(0))
	default:
		panic("no way to change a " + v.Type().String())
	}
}

// TestEveryChange changes each setting that there is, one after the other: what needs a
// restart is named, with what stays in force, and stays; what does not is taken. A new
// setting is among them, and has to say which of both it is.
func TestEveryChange(t *testing.T) {
	whole := func() (*Config, []oneSetting) {
		c, err := loadConfig("testdata/config/good-full.yaml")
		if err != nil {
			t.Fatal(err)
		}
		return c, eachSetting("", "", reflect.ValueOf(c).Elem())
	}
	inForce, settings := whole()
	seen := map[string][]string{}
	for i, setting := range settings {
		seen[setting.change] = append(seen[setting.change], setting.key)
		c, changed := whole()
		alter(changed[i].value)
		want := []pendingChange{{setting.key, settingText(setting.value), settingText(changed[i].value)}}
		pending := c.keepProcessSettings(inForce)
		stays := reflect.DeepEqual(c, inForce)
		switch setting.change {
		case changeRestart:
			if !slices.Equal(pending, want) || want[0].inForce == want[0].written || !stays {
				t.Errorf("%s: said %q, want %q; what is in force stays: %v", setting.key, pending, want, stays)
			}
		case changeReload:
			if len(pending) > 0 || stays {
				t.Errorf("%s: said %q, want nothing; taken: %v", setting.key, pending, !stays)
			}
		default:
			t.Errorf("%s: neither it nor its group says what a change does: %q", setting.key, setting.change)
		}
	}
	if len(seen[changeRestart]) < 30 || len(seen[changeReload]) < 15 {
		t.Errorf("only %v are seen: this test holds for nothing", seen)
	}
}

// TestGroupLeftOut: a group that appears, or is gone, is named as one; and a default that
// somebody writes down is no change.
func TestGroupLeftOut(t *testing.T) {
	load := func() *Config {
		c, err := loadConfig("testdata/config/good-least.yaml")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	inForce, c := load(), load()
	c.Map.Redis, c.Listen.TCP = &RedisConfig{}, nil
	c.Audit.Keep.written, c.Map.MaxStaleness = true, duration(0)
	want := []pendingChange{{"listen.tcp", "set", "not set"}, {"map.redis", "not set", "set"}}
	if got := c.keepProcessSettings(inForce); !slices.Equal(got, want) {
		t.Errorf("said %q, want %q", got, want)
	}
	if c.Map.Redis != nil || c.Listen.TCP == nil || c.Map.MaxStaleness.Duration != 0 {
		t.Errorf("%+v, %+v: a mixture of what is in force and what was written is wrong", c.Map, c.Listen)
	}
}
