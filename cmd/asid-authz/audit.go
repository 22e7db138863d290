package main

import (
	"io"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"asid-authz/envoy"
)

// recordSchema is the version of the audit record's fields. A field is added, never
// renamed and never given another meaning.
const recordSchema = 1

// An auditLog writes one JSON object a line for each decision, apart from the service
// log: who reads it has other questions and other rights.
type auditLog struct {
	core zapcore.Core
	file *os.File // nil: stdout
}

// openAudit opens the audit log that the configuration names.
func openAudit(c *Config, stdout io.Writer) (*auditLog, error) {
	a := &auditLog{}
	out := zapcore.AddSync(stdout)
	if c.Audit.Output == "file" {
		file, err := os.OpenFile(c.path(c.Audit.File), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, err
		}
		a.file, out = file, file
	}
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{TimeKey: "time", EncodeTime: zapcore.RFC3339NanoTimeEncoder})
	a.core = zapcore.NewCore(encoder, zapcore.Lock(out), zapcore.InfoLevel)
	return a, nil
}

// write writes a record, or says why it could not.
func (a *auditLog) write(r *envoy.Record) error {
	all := r.Fields()
	fields := make([]zapcore.Field, 0, len(all)+1)
	fields = append(fields, zap.Int("schema", recordSchema))
	for _, f := range all {
		fields = append(fields, zap.Any(f.Name, f.Value))
	}
	return a.core.Write(zapcore.Entry{Level: zapcore.InfoLevel, Time: r.Time.UTC()}, fields)
}

func (a *auditLog) close() error {
	if a.file == nil {
		return nil
	}
	return a.file.Close()
}
