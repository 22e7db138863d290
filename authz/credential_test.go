package authz

import "testing"

// TestCredentialWords holds the word-wise look at a credential against the plain one:
// every byte, at every place of a word, before and behind whole words.
func TestCredentialWords(t *testing.T) {
	for length := 1; length <= 26; length++ {
		for at := range length {
			for c := range 256 {
				text := make([]byte, length)
				for i := range text {
					text[i] = "!~aZ.-_"[i%7]
				}
				text[at] = byte(c)
				want := c > ' ' && c < 0x7f && c != ','
				if got := isCredential(string(text)); got != want {
					t.Fatalf("%q: %v, want %v", text, got, want)
				}
			}
		}
	}
	if isCredential("") {
		t.Error("nothing is a credential")
	}
	if isCredential(string(make([]byte, 32))) {
		t.Error("NULs are a credential")
	}
}
