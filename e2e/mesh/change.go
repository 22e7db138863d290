package mesh

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// A Change is one mistake, or one weaker setting, that is made in Envoy's configuration as
// the command prints it. There is no other way to run another configuration: what is tested
// is what is shipped, but for the named change. A Change that finds nothing to change is an
// error, so that none can become a test of nothing.
type Change struct {
	Name  string
	flag  string // of the command, where it offers the weaker setting itself
	apply func(tree any) error
}

// The mistakes and the weaker settings.
var (
	// Unverified asks clients for a certificate, takes any, and does without.
	Unverified = Change{Name: "unverified", flag: "--unverified-clients"}

	// Resuming lets clients resume TLS sessions, as Envoy does by default.
	Resuming = Change{Name: "resuming", apply: func(tree any) error {
		return each(tree, has("disable_stateless_session_resumption"), func(tls node) error {
			delete(tls, "disable_stateless_session_resumption")
			delete(tls, "disable_stateful_session_resumption")
			return nil
		})
	}}

	// FailingOpen lets requests pass that nobody decided about.
	FailingOpen = Change{Name: "failure_mode_allow", apply: func(tree any) error {
		return each(tree, isType("ExtAuthz"), func(filter node) error {
			filter["failure_mode_allow"] = true
			return nil
		})
	}}

	// Disabled switches the question off on every route.
	Disabled = Change{Name: "disabled", apply: func(tree any) error {
		return each(tree, isRoute, func(route node) error {
			perRoute(route)["disabled"] = true
			delete(perRoute(route), "check_settings")
			return nil
		})
	}}

	// Shadowed asks and does not heed the answer.
	Shadowed = Change{Name: "shadow_mode", apply: func(tree any) error {
		return each(tree, isType("ExtAuthz"), func(filter node) error {
			filter["shadow_mode"] = true
			return nil
		})
	}}

	// Unretried takes a question that was lost for lost, instead of asking another replica.
	Unretried = Change{Name: "unretried", apply: func(tree any) error {
		return each(tree, has("retry_policy"), func(service node) error {
			delete(service, "retry_policy")
			return nil
		})
	}}

	// Unlocked takes the lock away: the filter that lets pass only what ext_authz marked.
	Unlocked = Change{Name: "unlocked", apply: func(tree any) error { return withoutFilter(tree, "RBAC", "the lock") }}

	// Unasked takes the question away, with what the routes say about it. Without the lock
	// everything passes then.
	Unasked = Change{Name: "unasked", apply: func(tree any) error {
		if err := withoutFilter(tree, "ExtAuthz", "the question"); err != nil {
			return err
		}
		return each(tree, has("typed_per_filter_config"), func(route node) error {
			delete(route, "typed_per_filter_config")
			return nil
		})
	}}

	// Answering lets Envoy answer with 200 in the place of the API whatever would reach it,
	// after all filters.
	Answering = Change{Name: "answering", apply: func(tree any) error {
		toAPI := func(n node) bool { return isRoute(n) && has("route")(n) }
		return each(tree, toAPI, func(route node) error {
			delete(route, "route")
			route["direct_response"] = node{"status": 200}
			return nil
		})
	}}
)

// withoutFilter takes the HTTP filter of that type away.
func withoutFilter(tree any, name, what string) error {
	return each(tree, has("http_filters"), func(manager node) error {
		filters, _ := manager["http_filters"].([]any)
		kept := slices.DeleteFunc(slices.Clone(filters), func(filter any) bool {
			f, _ := filter.(node)
			config, _ := f["typed_config"].(node)
			return isType(name)(config)
		})
		if len(kept) == len(filters) {
			return fmt.Errorf("%s is not there", what)
		}
		manager["http_filters"] = kept
		return nil
	})
}

// Naming makes every route name that endpoint, right or wrong.
func Naming(endpoint string) Change {
	return Change{Name: "naming " + endpoint, apply: func(tree any) error {
		return each(tree, isRoute, func(route node) error {
			perRoute(route)["check_settings"] = node{"context_extensions": node{"asid-authz.endpoint": endpoint}}
			return nil
		})
	}}
}

// Asking makes Envoy ask another server in the place of asid-authz, over the same kind of
// connection: host:port, or unix:/path where asid-authz is asked over a Unix socket.
func Asking(address string) Change {
	return Change{Name: "asking " + address, apply: func(tree any) error {
		address, err := envoyAddress(address)
		if err != nil {
			return err
		}
		return each(tree, func(n node) bool { return n["cluster_name"] == "asid-authz" && has("endpoints")(n) }, func(assignment node) error {
			assignment["endpoints"] = []any{node{"lb_endpoints": []any{node{"endpoint": node{"address": address}}}}}
			return nil
		})
	}}
}

// envoyAddress returns an address as Envoy writes it.
func envoyAddress(address string) (node, error) {
	if path, is := strings.CutPrefix(address, "unix:"); is {
		return node{"pipe": node{"path": path}}, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	return node{"socket_address": node{"address": host, "port_value": number}}, nil
}

// perRoute returns what a route says about ext_authz.
func perRoute(route node) node {
	configs, is := route["typed_per_filter_config"].(node)
	if !is {
		configs = node{}
		route["typed_per_filter_config"] = configs
	}
	const filter = "envoy.filters.http.ext_authz"
	config, is := configs[filter].(node)
	if !is {
		config = node{"@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"}
		configs[filter] = config
	}
	return config
}

// node is a mapping of the tree that YAML becomes.
type node = map[string]any

func isType(name string) func(node) bool {
	return func(n node) bool {
		url, _ := n["@type"].(string)
		return strings.HasSuffix(url, "."+name)
	}
}

func has(key string) func(node) bool {
	return func(n node) bool { _, is := n[key]; return is }
}

// isRoute finds routes: the mappings that match requests and say what becomes of them.
func isRoute(n node) bool { return has("match")(n) && (has("route")(n) || has("direct_response")(n)) }

// each changes every mapping that matches, and says so if there is none.
func each(tree any, match func(node) bool, change func(node) error) error {
	found := 0
	var walk func(any) error
	walk = func(value any) error {
		switch v := value.(type) {
		case []any:
			for _, element := range v {
				if err := walk(element); err != nil {
					return err
				}
			}
		case node:
			if match(v) {
				found++
				if err := change(v); err != nil {
					return err
				}
			}
			for _, element := range v {
				if err := walk(element); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := walk(tree); err != nil {
		return err
	}
	if found == 0 {
		return errors.New("there is nothing to change")
	}
	return nil
}

// changed returns the configuration with those changes made, but for those that are flags of
// the command.
func changed(config []byte, changes []Change) ([]byte, error) {
	changes = slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return c.apply == nil })
	if len(changes) == 0 {
		return config, nil
	}
	var tree any
	if err := yaml.Unmarshal(config, &tree); err != nil {
		return nil, fmt.Errorf("the configuration of Envoy: %w", err)
	}
	for _, c := range changes {
		if err := c.apply(tree); err != nil {
			return nil, fmt.Errorf("change %s of the configuration of Envoy: %w", c.Name, err)
		}
	}
	return yaml.Marshal(tree)
}
