// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package http1

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type field struct{ name, value string }

func fieldsOf(f Fields) (fields []field) {
	for name, value := range f.All() {
		fields = append(fields, field{string(name), string(value)})
	}
	return fields
}

func TestParseRequest(t *testing.T) {
	for _, c := range []struct {
		name, head              string
		method, target, version string
		cut                     bool
		fields                  []field
	}{
		{"plain", "GET /a?b HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n", "GET", "/a?b", "1.1", false, []field{{"Host", "a"}, {"X", ""}}},
		{"bare line feeds", "GET / HTTP/1.0\nHost: a\n\n", "GET", "/", "1.0", false, []field{{"Host", "a"}}},
		{"empty lines before it", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", "GET", "/", "1.1", false, nil},
		{"any method", "x-Y!z * HTTP/1.1\r\n\r\n", "x-Y!z", "*", "1.1", false, nil},
		{"blanks in the target", "GET /a b HTTP/1.1\r\n\r\n", "GET", "/a b", "1.1", false, nil},
		{"a version in the target", "GET /a HTTP/1.1 HTTP/1.0\r\n\r\n", "GET", "/a HTTP/1.1", "1.0", false, nil},
		{"white space around values", "GET / HTTP/1.1\r\nA: \t b c\t \r\nD:e\r\n\r\n", "GET", "/", "1.1", false, []field{{"A", "b c"}, {"D", "e"}}},
		{"lines that are no fields", "GET / HTTP/1.1\r\nnothing\r\n: a\r\nb c: d\r\nE: f\r\n\r\n", "GET", "/", "1.1", false, []field{{"E", "f"}}},
		{"a folded line", "GET / HTTP/1.1\r\nA: b\r\n c: d\r\nE: f\r\n\r\n", "GET", "/", "1.1", false, []field{{"A", "b"}, {"E", "f"}}},
		{"a field that comes twice", "GET / HTTP/1.1\r\nA: b\r\na: c\r\n\r\n", "GET", "/", "1.1", false, []field{{"A", "b"}, {"a", "c"}}},
		{"cut off in a field", "GET / HTTP/1.1\r\nA: b\r\nC: d", "GET", "/", "1.1", false, []field{{"A", "b"}}},
		{"cut off in a line end", "GET / HTTP/1.1\r\nA: b\r", "GET", "/", "1.1", false, nil},
		{"cut off in the target", "GET /" + strings.Repeat("l", 2000), "GET", "/" + strings.Repeat("l", 2000), "", true, nil},
		{"nothing of the target", "GET ", "GET", "", "", true, nil},
		{"no target", "GET HTTP/1.1\r\n\r\n", "GET", "", "1.1", false, nil},
		{"an empty target", "GET  HTTP/1.1\r\n\r\n", "GET", "", "1.1", false, nil},
		{"no method", " / HTTP/1.1\r\n\r\n", "", "/", "1.1", false, nil},
		{"nothing but a version", " HTTP/1.1\r\nA: b\r\n\r\n", "", "", "1.1", false, []field{{"A", "b"}}},
		{"a method that is none", "G\x01\xc3T / HTTP/1.1\r\n\r\n", "G\x01\xc3T", "/", "1.1", false, nil},
		{"what follows the head", "GET / HTTP/1.1\r\n\r\nHost: a\r\n", "GET", "/", "1.1", false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := ParseRequest([]byte(c.head))
			require.NoError(t, err)
			assert.Equal(t, c.method, string(r.Method))
			assert.Equal(t, c.target, string(r.Target))
			assert.Equal(t, c.version, string(r.Version))
			assert.Equal(t, c.cut, r.TargetCut)
			assert.Equal(t, c.fields, fieldsOf(r.Fields))
		})
	}
}

func TestParseRequestRefuses(t *testing.T) {
	for _, head := range []string{"", "\r\n", "GET", "GET / HTTP", " / HTTP", "GET\r\n\r\n", "GET /\r\n\r\n", "GET /long/target NOVERSION\r\n", "G\x01T / HTTP", "HTTP/1.1\r\n"} {
		if head == "GET / HTTP" { // cut off within its line, which cannot be told from a long target
			r, err := ParseRequest([]byte(head))
			require.NoError(t, err)
			assert.True(t, r.TargetCut)
			continue
		}
		_, err := ParseRequest([]byte(head))
		assert.ErrorIs(t, err, ErrNoRequest, "%q", head)
	}
}

func TestResponseFields(t *testing.T) {
	assert.Equal(t, []field{{"A", "b"}, {"Set-Cookie", "c"}}, fieldsOf(ResponseFields([]byte("HTTP/1.1 200 OK\r\nA: b\r\nSet-Cookie: c\r\n\r\nD: e\r\n"))))
	assert.Empty(t, fieldsOf(ResponseFields([]byte("HTTP/1.1 200"))))
	assert.Empty(t, fieldsOf(ResponseFields(nil)))
}

func TestFieldsCanBeLeftEarly(t *testing.T) {
	for name := range Fields("A: b\r\nC: d\r\n").All() {
		assert.Equal(t, "A", string(name))
		break
	}
}

func TestIsMethod(t *testing.T) {
	for _, method := range []string{"GET", "M-SEARCH", "x1", "!#$%&'*+-.^_`|~"} {
		assert.True(t, IsMethod([]byte(method)), method)
	}
	for _, method := range []string{"", "/x", "a=b", "a:b", "a@b", "a?", "G\x01", "\xc3", "[", "{"} {
		assert.False(t, IsMethod([]byte(method)), method)
	}
}

func TestIs(t *testing.T) {
	assert.True(t, Is([]byte("User-AGENT"), "user-agent"))
	assert.False(t, Is([]byte("user_agent"), "user-agent"))
	assert.False(t, Is([]byte("host2"), "host"))
	assert.False(t, Is([]byte("[ost"), "{ost"), "only letters have two cases")
}

// FuzzParseRequest holds the parser against net/http's: what both accept, both understand alike.
func FuzzParseRequest(f *testing.F) {
	for _, head := range []string{
		"GET /a?b=c HTTP/1.1\r\nHost: example.test:80\r\nUser-Agent: x\r\n\r\n",
		"POST http://u:p@h:8080/x HTTP/1.0\r\nContent-Length: 5\r\n\r\n",
		"CONNECT [::1]:443 HTTP/1.1\r\n\r\n",
		"\r\nOPTIONS * HTTP/1.1\nhost:\n\n",
		"GET / HTTP/1.1\r\nA: b\r\n folded: c\r\n\r\n",
		"GET /cut",
		" HTTP/\n",
	} {
		f.Add([]byte(head))
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		r, err := ParseRequest(head)
		if err != nil {
			require.ErrorIs(t, err, ErrNoRequest)
			return
		}
		require.Equal(t, bytes.HasPrefix(bytes.TrimLeft(head, "\r\n"), []byte(" ")), len(r.Method) == 0, "none before a space, else there is one")
		fields := fieldsOf(r.Fields)
		target := SplitTarget(r.Method, r.Target)
		require.LessOrEqual(t, len(target.Path)+len(target.Query), len(r.Target)+1)
		SplitHost(string(target.Authority))

		theirs, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(bytes.TrimLeft(head, "\r\n"))))
		if err != nil || r.TargetCut {
			return
		}
		require.Equal(t, theirs.Method, string(r.Method))
		require.Equal(t, theirs.RequestURI, string(r.Target))
		require.Equal(t, theirs.Proto, "HTTP/"+string(r.Version))
		if values := theirs.Header["User-Agent"]; len(values) == 1 && !bytes.Contains(head, []byte("\n ")) && !bytes.Contains(head, []byte("\n\t")) {
			var ours []string
			for _, field := range fields {
				if Is([]byte(field.name), "user-agent") {
					ours = append(ours, field.value)
				}
			}
			require.Equal(t, values, ours)
		}
	})
}

func BenchmarkParseRequest(b *testing.B) {
	head := []byte("GET /api/v1/users/42?verbose=1 HTTP/1.1\r\nHost: users.example:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nX-Request-Id: 0123456789\r\nConnection: keep-alive\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		r, err := ParseRequest(head)
		if err != nil {
			b.Fatal(err)
		}
		for name := range r.Fields.All() {
			Is(name, "host")
		}
	}
}
