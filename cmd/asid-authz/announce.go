package main

import (
	"encoding/hex"
	"slices"
	"time"

	"go.uber.org/zap"

	"asid-authz/authz"
)

// announcements are what was said last about exceptions, so that each is said once when
// it begins and once when it ends, whatever ended it: a file, the configuration or time.
type announcements struct {
	orders     *authz.BreakGlass
	inForce    string
	withoutCRL []string
	strangers  []string
}

// announce says what has changed.
func (a *announcements) announce(g *generation, now time.Time, log *zap.Logger) {
	orders, inForce := g.breakGlassAt(now)
	if inForce != a.inForce || inForce != "" && orders != a.orders {
		if inForce == "" {
			log.Warn("break-glass is over: nothing of it is in force any more")
		} else {
			o := orders.Orders()
			fields := []zap.Field{zap.String("in_force", inForce), zap.String("reason", o.Reason),
				zap.Stringers("denied_asids", o.ASIDs), zap.Strings("denied_certificates", fingerprints(o.Certificates))}
			if o.MaxStaleness > 0 {
				fields = append(fields, zap.Duration("max_staleness", o.MaxStaleness), zap.Time("until", o.Until))
			}
			log.Warn("BREAK-GLASS is in force: an operator has overruled the map", fields...)
		}
	}
	a.orders, a.inForce = orders, inForce

	var withoutCRL, strangers []string
	if t, is := g.trust.(*trustFile); is {
		if trust, _ := t.Current(); trust != nil {
			withoutCRL, strangers = trust.WithoutCRL(), t.strangers()
		}
	}
	if !slices.Equal(withoutCRL, a.withoutCRL) && len(withoutCRL) > 0 {
		log.Warn("CAs of trust.client_ca without a CRL: what they issued is denied as revocation-unknown", zap.Strings("cas", excerpts(withoutCRL)))
	}
	if !slices.Equal(strangers, a.strangers) && len(strangers) > 0 {
		log.Warn("CRLs of nobody in trust.client_ca: they revoke nothing", zap.Strings("issuers", strangers))
	}
	a.withoutCRL, a.strangers = withoutCRL, strangers
}

func fingerprints(sums [][32]byte) []string {
	texts := make([]string, len(sums))
	for i := range sums {
		texts[i] = hex.EncodeToString(sums[i][:])
	}
	return texts
}

func excerpts(texts []string) []string {
	quoted := make([]string, len(texts))
	for i := range texts {
		quoted[i] = authz.Excerpt(texts[i])
	}
	return quoted
}
