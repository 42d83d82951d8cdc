// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package cni // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/cni"

import (
	"bytes"
	"encoding/json"
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

// ParseError reads what a plugin printed; of output that was cut off, as much as is whole. Text that is no JSON is
// kept as it is.
func ParseError(output []byte) Error {
	output = bytes.TrimSpace(output)
	decoder := json.NewDecoder(bytes.NewReader(output))
	var e Error
	if !e.readObject(decoder) {
		return Error{Message: text(string(output)), Plain: len(output) > 0}
	}
	e.Message, e.Details = text(e.Message), text(e.Details)
	return e
}

// text is valid UTF-8, and without the NULs that are none.
func text(raw string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(raw, "\uFFFD"), "\x00", "\uFFFD")
}

// readObject says whether there is a code or a message. Keys are read one by one, so that those before the place where
// the output was cut off count.
func (e *Error) readObject(decoder *json.Decoder) bool {
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return false
	}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			break
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			break
		}
		if name, ok := key.(string); ok {
			e.set(name, value)
		}
	}
	return e.Code != 0 || e.Message != ""
}

// set a field; a value of another type is none.
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
