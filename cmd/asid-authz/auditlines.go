package main

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"

	"asid-authz/authz"
	"asid-authz/envoy"
)

// recordSchema is the version of the audit log's fields. A field is added, never
// renamed and never given another meaning.
const recordSchema = 1

// auditLines makes the lines of the audit log. A line is the caller's to free.
type auditLines struct {
	encoder zapcore.Encoder
	fields  *sync.Pool // of *[]zapcore.Field
}

func newAuditLines() auditLines {
	return auditLines{
		encoder: zapcore.NewJSONEncoder(zapcore.EncoderConfig{TimeKey: "time", EncodeTime: zapcore.RFC3339NanoTimeEncoder}),
		fields:  &sync.Pool{New: func() any { fields := make([]zapcore.Field, 0, 24); return &fields }},
	}
}

// record returns the line of a decision.
func (l auditLines) record(r *envoy.Record) *buffer.Buffer {
	return l.line(r.Time, func(fields []zapcore.Field) []zapcore.Field {
		for f := range r.Fields {
			if f.Text != "" {
				fields = append(fields, zap.String(f.Name, f.Text))
			} else {
				fields = append(fields, zap.Uint64(f.Name, f.Number))
			}
		}
		return fields
	})
}

// summary returns the line that stands for denials of one Reason that have none.
func (l auditLines) summary(reason authz.Reason, suppressed uint64, since, now time.Time) *buffer.Buffer {
	return l.line(now, func(fields []zapcore.Field) []zapcore.Field {
		return append(fields, zap.String("reason", reason.String()), zap.Uint64("suppressed", suppressed), zap.Time("since", since.UTC()))
	})
}

// gap returns the line that says how many lines before it were lost.
func (l auditLines) gap(dropped int, since, now time.Time) *buffer.Buffer {
	return l.line(now, func(fields []zapcore.Field) []zapcore.Field {
		return append(fields, zap.Int("dropped", dropped), zap.Time("since", since.UTC()))
	})
}

func (l auditLines) line(at time.Time, add func([]zapcore.Field) []zapcore.Field) *buffer.Buffer {
	pooled := l.fields.Get().(*[]zapcore.Field)
	fields := add(append((*pooled)[:0], zap.Int("schema", recordSchema)))
	line, err := l.encoder.EncodeEntry(zapcore.Entry{Time: at.UTC()}, fields)
	if err != nil {
		panic(err) // it writes texts, numbers and times into memory
	}
	clear(fields) // they alias the request
	*pooled = fields
	l.fields.Put(pooled)
	return line
}
