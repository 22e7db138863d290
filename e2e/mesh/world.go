package mesh

import "asid-authz/authz/authztest"

// WorldFiles returns the files that [WorldSettings] names.
func WorldFiles(w *authztest.Minted) (map[string][]byte, error) {
	text, err := w.MapText()
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"map.yaml": []byte(text), "client-ca.pem": w.CAs()}
	if w.ProfileText != "" {
		files["profile.yaml"] = []byte(w.ProfileText)
	}
	for name, issuer := range w.Issuers {
		files["jwks-"+name+".json"] = issuer.JWKS()
	}
	return files, nil
}

// WorldSettings returns what the configuration of an asid-authz in that world says, but for
// what a process has of its own: where it listens and where it writes.
func WorldSettings(w *authztest.Minted) map[string]any {
	profile := node{"rules_off": w.RulesOff}
	if w.Base != nil {
		profile["base"] = *w.Base
	}
	if w.ProfileText != "" {
		profile["file"] = "profile.yaml"
	} else {
		profile["name"] = w.Profile
	}
	binding := node{}
	mode, name, asid := w.BindingNames()
	for key, value := range map[string]string{"mode": mode, "name": name, "asid": asid} {
		if value != "" {
			binding[key] = value
		}
	}
	var receivers []string
	for _, r := range w.Receivers {
		receivers = append(receivers, r.String())
	}
	var issuers []node
	for _, i := range w.World.Issuers {
		issuers = append(issuers, node{
			"issuer": i.Issuer, "audiences": i.Audiences, "algorithms": i.Algorithms,
			"keys": node{"file": "jwks-" + i.Name + ".json"},
		})
	}
	return node{
		"profile":   profile,
		"receivers": receivers,
		"binding":   binding,
		"issuers":   issuers,
		"map":       node{"source": "file", "file": "map.yaml"},
		"trust":     node{"client_ca": "client-ca.pem"},
	}
}
