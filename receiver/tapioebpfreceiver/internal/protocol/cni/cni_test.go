// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

func TestParseEnvironment(t *testing.T) {
	for _, tt := range []struct {
		name, variables string
		want            Environment
	}{
		{"nothing", "", Environment{}},
		{
			"of a pod",
			"CNI_COMMAND=ADD\x00CNI_CONTAINERID=abc\x00CNI_NETNS=/run/netns/x\x00CNI_IFNAME=eth0\x00" +
				"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=1-2\x00",
			Environment{"ADD", "abc", "/run/netns/x", "eth0", Pod{"shop", "web-0", "1-2"}},
		},
		{"the first counts", "CNI_COMMAND=ADD\x00CNI_COMMAND=DEL\x00", Environment{Command: "ADD"}},
		{"no value", "CNI_COMMAND\x00CNI_IFNAME=\x00", Environment{}},
		{"a name that only begins so", "CNI_NETNS_OVERRIDE=1\x00CNI_COMMANDS=x\x00", Environment{}},
		{"not UTF-8", "CNI_IFNAME=\xff\x00", Environment{Interface: "\uFFFD"}},
		{"cut off", "CNI_ARGS=K8S_POD_NAME=we", Environment{Pod: Pod{Name: "we"}}},
		{"arguments that are none", "CNI_ARGS=;;=;K8S_POD_NAME;x\x00", Environment{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, ParseEnvironment([]byte(tt.variables)))
		})
	}
}

func TestCommands(t *testing.T) {
	for command, want := range map[string]struct{ known, chained bool }{
		Add: {true, true}, Del: {true, true}, Check: {true, true}, Status: {true, false}, GC: {true, false}, Version: {true, false},
		"": {}, "add": {}, "EXPLODE": {},
	} {
		e := Environment{Command: command, ContainerID: "abc"}
		assert.Equal(t, want.known, e.IsKnown(), command)
		assert.Equal(t, want.chained, e.IsChained(), command)
		e.ContainerID = ""
		assert.False(t, e.IsChained(), command)
	}
}

func TestParseError(t *testing.T) {
	for _, tt := range []struct {
		name, output string
		want         Error
		wantType     string
	}{
		{"nothing", "", Error{}, ""},
		{"blank", " \n", Error{}, ""},
		{"whole", `{"cniVersion":"1.0.0","code":7,"msg":"bad","details":"very"}` + "\n", Error{Code: 7, Message: "bad", Details: "very"}, "invalid_network_config"},
		{"of the reference plugins", "{\n    \"code\": 999,\n    \"msg\": \"no IP addresses available\"\n}", Error{Code: 999, Message: "no IP addresses available"}, "internal"},
		{"of the plugin's own", `{"code":101,"msg":"x"}`, Error{Code: 101, Message: "x"}, "cni_101"},
		{"without a code", `{"msg":"x"}`, Error{Message: "x"}, ""},
		{"more keys than one knows", `{"a":{"b":[1,{}]},"code":11,"msg":"later"}`, Error{Code: 11, Message: "later"}, "try_again_later"},
		{"cut off in the details", `{"code":5,"msg":"disk","details":"as lo`, Error{Code: 5, Message: "disk", Details: "as lo", Truncated: true}, "io_failure"},
		{"cut off in the message", `{"code":5,"msg" : "di`, Error{Code: 5, Message: "di", Truncated: true}, "io_failure"},
		{"cut off before the message", `{"code":5,"msg":`, Error{Code: 5, Truncated: true}, "io_failure"},
		{"cut off at the message's first byte", `{"code":5,"msg":"`, Error{Code: 5, Truncated: true}, "io_failure"},
		{"cut off behind the message", `{"code":5,"msg":"disk"`, Error{Code: 5, Message: "disk", Truncated: true}, "io_failure"},
		{"cut off in a backslash", `{"msg":"a\\b\`, Error{Message: `a\b`, Truncated: true}, ""},
		{"cut off in an escape", `{"msg":"a\"\u00e`, Error{Message: `a"`, Truncated: true}, ""},
		{"cut off in the code", `{"msg":"disk","code":99`, Error{Message: "disk", Truncated: true}, ""},
		{"cut off in another value", `{"msg":"disk","a":{"b":"c`, Error{Message: "disk", Truncated: true}, ""},
		{"broken, not cut off", `{"msg":"disk","a":!}`, Error{Message: "disk"}, ""},
		{"cut off before anything", `{"code":`, Error{Message: `{"code":`, Plain: true}, ""},
		{"values of other types", `{"code":"7","msg":[1],"details":{}}`, Error{Message: `{"code":"7","msg":[1],"details":{}}`, Plain: true}, ""},
		{"codes that are none", `{"code":-1,"msg":"x"}`, Error{Message: "x"}, ""},
		{"a code beyond all", `{"code":123456789012345678901234567890,"msg":"x"}`, Error{Message: "x"}, ""},
		{"text", "panic: oh no\n\ngoroutine 1", Error{Message: "panic: oh no\n\ngoroutine 1", Plain: true}, ""},
		{"not UTF-8", "caf\xe9\x00", Error{Message: "caf\uFFFD\uFFFD", Plain: true}, ""},
		{"not UTF-8 in JSON", "{\"code\":7,\"msg\":\"caf\xe9\"}", Error{Code: 7, Message: "caf\uFFFD"}, "invalid_network_config"},
		{"a list", `[1]`, Error{Message: `[1]`, Plain: true}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ParseError([]byte(tt.output))
			assert.Equal(t, tt.want, got)
			assert.Equal(t, tt.wantType, got.Type())
		})
	}
}

func FuzzParseError(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.0.0","code":7,"msg":"bad","details":"very"}`))
	f.Add([]byte("text \xff"))
	f.Add([]byte(strings.Repeat(`{"a":[`, 300)))
	f.Fuzz(func(t *testing.T, output []byte) {
		e := ParseError(output)
		if !utf8.ValidString(e.Message) || !utf8.ValidString(e.Details) || e.Code < 0 || e.Code > maxCode {
			t.Fatalf("%+v", e)
		}
	})
}

func FuzzParseEnvironment(f *testing.F) {
	f.Add([]byte("CNI_COMMAND=ADD\x00CNI_ARGS=K8S_POD_NAME=x;\xff\x00"))
	f.Fuzz(func(t *testing.T, variables []byte) {
		e := ParseEnvironment(variables)
		for _, text := range []string{e.Command, e.ContainerID, e.Netns, e.Interface, e.Pod.Namespace, e.Pod.Name, e.Pod.UID} {
			if !utf8.ValidString(text) {
				t.Fatalf("%q", text)
			}
		}
	})
}
