package token

import (
	"time"

	"go.uber.org/zap"

	"asid-authz/authz"
)

// FileKeys are keys that are handed in, by whoever reads the file.
type FileKeys struct{ holder }

// NewFileKeys returns FileKeys that hold nothing yet. name is the file's, for people;
// log must not be nil.
func NewFileKeys(name string, log *zap.Logger) *FileKeys {
	return &FileKeys{holder{source: name, log: log}}
}

// Load takes the content of the file, a JSON key set (RFC 7517), read at now. It is to
// be called each time that the file was read, not only when it has changed: equal
// content confirms the keys anew, and without that they grow too old to be used. After
// an error the keys are those of before, and they go on ageing.
func (k *FileKeys) Load(text []byte, now time.Time) error {
	err := k.accept(text, now)
	if err != nil {
		k.refuse(err)
	}
	return err
}

// unknown: a file is read each second, so what is not in it does not exist.
func (k *FileKeys) unknown(*held, time.Time) authz.Reason { return authz.TokenKeyUnknown }
