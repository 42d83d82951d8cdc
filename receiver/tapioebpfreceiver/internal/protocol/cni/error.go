// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package cni // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/cni"

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
)

// Error is what a plugin prints that fails.
type Error struct {
	Code    int64 // 0: it told none
	Message string
	Details string
	// Plain says that it is no error of the specification: Message is what was printed.
	Plain bool
	// Truncated says that the JSON ends too early: the last text may be shorter than it was, or missing.
	Truncated bool
}

// names of the codes that the specification gives; those from 100 on are each plugin's own.
var names = map[int64]string{
	1:   "incompatible_cni_version",
	2:   "unsupported_field",
	3:   "unknown_container",
	4:   "invalid_environment_variables",
	5:   "io_failure",
	6:   "decoding_failure",
	7:   "invalid_network_config",
	11:  "try_again_later",
	50:  "plugin_not_available",
	51:  "limited_connectivity",
	999: "internal", // of the reference plugins' library
}

// Type of the error, of which there are few; empty: its code was not told.
func (e *Error) Type() string {
	switch name, ok := names[e.Code]; {
	case e.Code == 0:
		return ""
	case ok:
		return name
	default:
		return "cni_" + strconv.FormatInt(e.Code, 10)
	}
}

// maxCode is the largest that has a type of its own.
const maxCode = 9999

// ParseError reads what a plugin printed; of output that was cut off, as much as is there. Text that is no JSON is
// kept as it is.
func ParseError(output []byte) Error {
	output = bytes.TrimSpace(output)
	var e Error
	if !e.readObject(output) {
		return Error{Message: text(string(output)), Plain: len(output) > 0}
	}
	e.Message, e.Details = text(e.Message), text(e.Details)
	return e
}

// text is valid UTF-8, and without the NULs that are none.
func text(raw string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(raw, "\uFFFD"), "\x00", "\uFFFD")
}

// readObject says whether there is a code or a message.
func (e *Error) readObject(output []byte) bool {
	decoder := json.NewDecoder(bytes.NewReader(output))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return false
	}
	err := e.readFields(decoder, output)
	e.Truncated = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	return e.Code != 0 || e.Message != ""
}

// readFields one by one, so that those before the place where the output was cut off count. There, a text is as
// long as it is; a number would be another one.
func (e *Error) readFields(decoder *json.Decoder, output []byte) error {
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return err
		}
		name, ok := key.(string)
		if !ok {
			return nil
		}
		rest := output[decoder.InputOffset():]
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			e.set(name, closed(rest))
			return err
		}
		if decoder.InputOffset() == int64(len(output)) && value[0] != '"' {
			return io.ErrUnexpectedEOF
		}
		e.set(name, value)
	}
	_, err := decoder.Token()
	return err
}

// maxPartOfEscape are the bytes of \uXXXX without the last.
const maxPartOfEscape = 5

// closed is the text that was cut off behind a key; nil: there is none.
func closed(rest []byte) json.RawMessage {
	text, _ := bytes.CutPrefix(bytes.TrimSpace(rest), []byte(":"))
	text = bytes.TrimLeft(text, " \t\r\n")
	if len(text) == 0 || text[0] != '"' {
		return nil
	}
	for part := 0; part <= maxPartOfEscape && part < len(text); part++ {
		if whole := append(bytes.Clone(text[:len(text)-part]), '"'); json.Valid(whole) {
			return whole
		}
	}
	return nil
}

// set a field; one whose value is of another type stays empty.
func (e *Error) set(name string, value json.RawMessage) {
	switch name {
	case "code":
		var code int64
		if json.Unmarshal(value, &code) == nil && code > 0 && code <= maxCode {
			e.Code = code
		}
	case "msg":
		_ = json.Unmarshal(value, &e.Message)
	case "details":
		_ = json.Unmarshal(value, &e.Details)
	}
}
