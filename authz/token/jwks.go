package token

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/MicahParks/jwkset"

	"asid-authz/authz"
)

// A keySet is the usable keys of one key set document by their kid. It is immutable.
type keySet struct {
	keys    map[string]*key
	dropped []string // why the other keys of the document cannot be used
}

// A key verifies signatures of some algorithms.
type key struct {
	public     any
	algorithms []string
}

const (
	minRSABits = 2048
	maxRSABits = 8192 // what verifying costs grows with the square
	maxKeys    = 256  // of one document
	maxKID     = 256  // bytes
)

// documentBounds are those of a key set and of a discovery document.
var documentBounds = bounds{depth: 8, members: 256, values: 1 << 14}

// privateMembers are parts of a JWK that no public key has. The set of an issuer that
// publishes one of them has told the world how to sign.
var privateMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

// parseJWKS reads a key set (RFC 7517). A key that cannot be used is dropped and the
// rest is kept, because issuers publish keys for other purposes in the same document;
// a document that holds no usable key is an error.
func parseJWKS(text []byte) (*keySet, error) {
	document, err := parseObject(string(text), documentBounds)
	if err != nil {
		return nil, fmt.Errorf("not a key set: %w", err)
	}
	list, found := find(document, "keys")
	if !found || list.kind != kindArray {
		return nil, errors.New("not a key set: it has no array named keys")
	}
	elements, err := parseArray(list.text, documentBounds)
	if err != nil {
		return nil, fmt.Errorf("not a key set: %w", err)
	}
	if len(elements) > maxKeys {
		return nil, fmt.Errorf("the key set holds %d keys, more than %d", len(elements), maxKeys)
	}
	set := &keySet{keys: map[string]*key{}}
	seen := map[string]int{} // kid → how many keys claim it
	for i, element := range elements {
		kid, k, err := parseJWK(element)
		if kid != "" {
			seen[kid]++
			if seen[kid] > 1 {
				// Which of the two an issuer means is anybody's guess, so neither.
				delete(set.keys, kid)
				err = errors.New("the kid stands twice in the set: none of its keys is used")
			}
		}
		switch {
		case err != nil && kid != "":
			set.dropped = append(set.dropped, fmt.Sprintf("key %d (kid %s): %v", i+1, authz.Excerpt(kid), err))
		case err != nil:
			set.dropped = append(set.dropped, fmt.Sprintf("key %d: %v", i+1, err))
		default:
			set.keys[kid] = k
		}
	}
	if len(set.keys) == 0 {
		return nil, errors.New(strings.Join(append([]string{"the key set holds no usable key"}, set.dropped...), "; "))
	}
	return set, nil
}

// parseJWK returns the key, or why it cannot be used. kid is "" if it has none.
func parseJWK(element value) (kid string, k *key, err error) {
	if element.kind != kindObject {
		return "", nil, errors.New("it is not an object")
	}
	members, err := parseObject(element.text, documentBounds)
	if err != nil {
		return "", nil, err
	}
	// text returns a member that must be text if it is there.
	text := func(name string) string {
		v, found := find(members, name)
		if found && v.kind != kindString {
			err = fmt.Errorf("its %s is not text", name)
			return ""
		}
		return v.text
	}
	kid = text("kid")
	kty, crv, use, alg := text("kty"), text("crv"), text("use"), text("alg")
	marshal := jwkset.JWKMarshal{KTY: jwkset.KTY(kty), N: text("n"), E: text("e"), X: text("x"), Y: text("y"), CRV: jwkset.CRV(crv)}
	_, hasUse := find(members, "use")
	_, hasAlg := find(members, "alg")
	switch {
	case err != nil:
		return kid, nil, err
	case kid == "":
		return "", nil, errors.New("it has no kid")
	case len(kid) > maxKID:
		return "", nil, fmt.Errorf("its kid is longer than %d bytes", maxKID)
	case hasUse && use != "sig":
		return kid, nil, fmt.Errorf("its use is %s, not sig", authz.Excerpt(use))
	case !mayVerify(members):
		return kid, nil, errors.New("its key_ops do not hold verify")
	}
	for _, name := range privateMembers {
		if _, found := find(members, name); found {
			return kid, nil, fmt.Errorf("it is not a public key: it holds %s, which is secret, and whoever reads the set can sign with it", name)
		}
	}
	k = &key{}
	switch {
	case kty == "RSA":
		k.algorithms = rsaAlgorithms
	case kty == "EC" && crv == "P-256":
		k.algorithms = p256Algorithms
	case kty == "EC" && crv == "P-384":
		k.algorithms = p384Algorithms
	case kty == "OKP" && crv == "Ed25519":
		k.algorithms = ed25519Algorithms
	default:
		return kid, nil, fmt.Errorf("its type (kty %s, crv %s) is none that an algorithm here uses", authz.Excerpt(kty), authz.Excerpt(crv))
	}
	if hasAlg {
		if !slices.Contains(k.algorithms, alg) {
			return kid, nil, fmt.Errorf("its alg is %s, not one of %s", authz.Excerpt(alg), strings.Join(k.algorithms, ", "))
		}
		k.algorithms = []string{alg}
	}
	jwk, err := jwkset.NewJWKFromMarshal(marshal, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return kid, nil, errors.New(strings.ReplaceAll(err.Error(), "\n", ": "))
	}
	k.public = jwk.Key()
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return kid, nil, fmt.Errorf("it has %d bits, not %d to %d", bits, minRSABits, maxRSABits)
		}
		if public.E < 3 || public.E%2 == 0 || public.N.Bit(0) == 0 {
			return kid, nil, errors.New("an RSA modulus is odd, and its exponent is odd and at least 3")
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return kid, nil, fmt.Errorf("%T is no key to verify with", k.public)
	}
	return kid, k, nil
}

// mayVerify reports whether key_ops, if it is there, lets a key verify.
func mayVerify(members []member) bool {
	operations, found := find(members, "key_ops")
	if !found {
		return true
	}
	if operations.kind != kindArray {
		return false
	}
	elements, err := parseArray(operations.text, documentBounds)
	return err == nil && slices.Contains(elements, value{kindString, "verify"})
}
