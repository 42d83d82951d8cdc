// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

// commandLine is written with | between its arguments.
func commandLine(text string) []string { return strings.Split(text, "|") }

func TestRedact(t *testing.T) {
	for _, tt := range []struct {
		name, given, want string
	}{
		{"password in option", "mysql|--password=hunter2|-h|db", "mysql|--password=REDACTED|-h|db"},
		{"password after option", "mysql|--password|hunter2|db", "mysql|--password|REDACTED|db"},
		{"password after option of one dash", "java|-password|hunter2|db", "java|-password|REDACTED|db"},
		{"password that begins with a dash", "tool|--password|-hunter2|db", "tool|--password|REDACTED|db"},
		{"option after option without a value", "psql|--no-password|-h|db", "psql|--no-password|-h|db"},
		{"long option after option without a value", "docker|login|--password-stdin|--username|me", "docker|login|--password-stdin|--username|me"},
		{"credential option at the end", "mysql|-h|db|--password", "mysql|-h|db|--password"},
		{"option with an empty value", "tool|--password=|x", "tool|--password=|x"},
		{"value with = and :", "tool|--token=a=b:c", "tool|--token=REDACTED"},
		{"any spelling", "tool|--DB_Password=a|--api-key=b|--apiKey=c|-Dspring.datasource.password=d", "tool|--DB_Password=REDACTED|--api-key=REDACTED|--apiKey=REDACTED|-Dspring.datasource.password=REDACTED"},
		{"further names", "tool|--pass=a|MYSQL_PWD=b|AccountKey=c|--client-secret=d|aws_access_key_id=e", "tool|--pass=REDACTED|MYSQL_PWD=REDACTED|AccountKey=REDACTED|--client-secret=REDACTED|aws_access_key_id=REDACTED"},
		{"password by OpenSSL's prefix", "openssl|rsa|-passin|pass:hunter2", "openssl|rsa|-passin|pass:REDACTED"},

		{"pair after -u", "curl|-u|me:hunter2|https://host/", "curl|-u|me:REDACTED|https://host/"},
		{"pair after letters that share a dash", "curl|-sSu|me:hunter2", "curl|-sSu|me:REDACTED"},
		{"script: pair after letters that share a dash", "sh|-c|curl -su me:hunter2", "sh|-c|curl -su REDACTED"},
		{"password with a slash", "psql|postgres://u:se/cret@h/db", "psql|postgres://REDACTED:REDACTED@h/db"},
		{"password with a hash", "psql|postgres://u:se#cret@h/db", "psql|postgres://REDACTED:REDACTED@h/db"},
		{"scope of a package", "npm|https://host:4873/@scope/name", "npm|https://host:4873/@scope/name"},
		{"password that is called one, and a port", "curl|http://user:secret@h:8080/a", "curl|http://REDACTED:REDACTED@h:8080/a"},
		{"IPv6 host", "curl|http://[::1]/@x", "curl|http://[::1]/@x"},
		{"pair after --user", "curl|--user|me:hunter2", "curl|--user|me:REDACTED"},
		{"pair after --proxy-user", "curl|--proxy-user|me:hunter2", "curl|--proxy-user|me:REDACTED"},
		{"pair after -U", "curl|-U|me:hunter2", "curl|-U|me:REDACTED"},
		{"pair after --creds", "skopeo|inspect|--creds|me:hunter2", "skopeo|inspect|--creds|me:REDACTED"},
		{"pair in option", "curl|--user=me:hunter2", "curl|--user=me:REDACTED"},
		{"pair right behind -u", "curl|-ume:hunter2", "curl|-ume:REDACTED"},
		{"password with a colon in a pair", "curl|-u|me:hunter:2", "curl|-u|me:REDACTED"},
		{"user without a password", "psql|-U|me|-u|you|--user=them", "psql|-U|me|-u|you|--user=them"},
		{"option after -u", "sort|-u|--key=1:2", "sort|-u|--key=1:2"},
		{"options that begin with u", "tool|-url=https://host:80/|-upstream=host:80", "tool|-url=https://host:80/|-upstream=host:80"},

		{"header", "curl|-H|Authorization: Bearer x|https://host/", "curl|-H|Authorization:REDACTED|https://host/"},
		{"header right behind -H", "curl|-HX-Auth-Token: x", "curl|-HX-Auth-Token:REDACTED"},
		{"cookie", "curl|--header=Cookie: a=b", "curl|--header=Cookie:REDACTED"},
		{"harmless header", "curl|-H|Accept: text/html", "curl|-H|Accept: text/html"},

		{"variable before a command", "env|X_TOKEN=abc|cmd", "env|X_TOKEN=REDACTED|cmd"},
		{"variable after another", "docker|run|-e|A=1|-e|POSTGRES_PASSWORD=x|image", "docker|run|-e|A=1|-e|POSTGRES_PASSWORD=REDACTED|image"},
		{"variable in an option", "docker|run|--env=API_TOKEN=x|image", "docker|run|--env=API_TOKEN=REDACTED|image"},

		{"URL with user and password", "psql|postgres://u:p@h/db", "psql|postgres://REDACTED:REDACTED@h/db"},
		{"URL in an option", "tool|--dsn=amqp://u:p@h:5672/", "tool|--dsn=amqp://REDACTED:REDACTED@h:5672/"},
		{"URL with user alone", "git|clone|https://ghp_x@host/repo", "git|clone|https://REDACTED:REDACTED@host/repo"},
		{"URL with @ in the password", "psql|postgres://u:p@ss@h/db", "psql|postgres://REDACTED:REDACTED@h/db"},
		{"URL with @ in the path", "npm|i|https://registry/@scope/pkg", "npm|i|https://registry/@scope/pkg"},
		{"URL without user", "curl|https://host:8443/a?b=c#d", "curl|https://host:8443/a?b=c#d"},
		{"URL parameter", "curl|https://host/a?b=c&api_key=x&d=e", "curl|https://host/a?b=c&api_key=REDACTED"},
		{"URL parameter in an option", "curl|--url=https://host/?access_token=x", "curl|--url=https://host/?access_token=REDACTED"},
		{"URL list", "etcdctl|--endpoints=http://a:b@h1:2379,http://c:d@h2:2379", "etcdctl|--endpoints=http://REDACTED:REDACTED@h1:2379,http://REDACTED:REDACTED@h2:2379"},
		{"URL list with blanks", "tool|http://a:b@h1 http://h2 http://c:d@h3", "tool|http://REDACTED:REDACTED@h1 http://h2 http://REDACTED:REDACTED@h3"},
		{"URL of many hosts", "mongosh|mongodb://u:p@h1:1,h2:2/db", "mongosh|mongodb://REDACTED:REDACTED@h1:1,h2:2/db"},
		{"JDBC URL", "java|jdbc:mysql://h/db?user=u&password=p", "java|jdbc:mysql://h/db?user=u&password=REDACTED"},
		{"connection string", "tool|Server=h;User=u;Password=p;", "tool|Server=h;User=u;Password=REDACTED"},
		{"JSON", `tool|{"user":"u","password":"p"}`, `tool|{"user":"u","password":REDACTED`},

		{"script: variable", "sh|-c|A=1 TOKEN=x cmd", "sh|-c|A=1 TOKEN=REDACTED"},
		{"script: option", "sh|-c|mysql --password hunter2 -h db", "sh|-c|mysql --password REDACTED"},
		{"script: pair", "sh|-c|curl -u me:hunter2 https://host/", "sh|-c|curl -u REDACTED"},
		{"script: URL", "sh|-c|cd /a; psql postgres://u:p@h/db", "sh|-c|cd /a; psql postgres://REDACTED:REDACTED@h/db"},
		{"script: harmless -u", "sh|-c|sort -u file", "sh|-c|sort -u file"},
		{"title that a program gave itself", "worker --token=x", "worker --token=REDACTED"},

		{"nothing to hide", "/usr/bin/python3|-m|http.server|--bind=::1|8000|a b|x=y", "/usr/bin/python3|-m|http.server|--bind=::1|8000|a b|x=y"},
		{"program name only", "/usr/bin/passwd", "/usr/bin/passwd"},
		{"login shell", "-bash", "-bash"},
		{"secret words as operands", "kubectl|get|secret|my-token", "kubectl|get|secret|my-token"},
		{"empty arguments", "tool|||", "tool|||"},
		{"empty value after option", "tool|--token||x", "tool|--token|REDACTED|x"},

		// Known: harmless values that are hidden, and secrets that are not. See Redact's comment.
		{"harmless value behind a suspicious name", "vllm|--tokenizer-path=/x|--max-tokens|5", "vllm|--tokenizer-path=REDACTED|--max-tokens|REDACTED"},
		{"password right behind a letter", "mysql|-phunter2", "mysql|-phunter2"},
		{"password by its place", "htpasswd|-b|file|me|hunter2", "htpasswd|-b|file|me|hunter2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, commandLine(tt.want), Redact(commandLine(tt.given)))
		})
	}
}

func TestSplitArguments(t *testing.T) {
	for raw, want := range map[string][]string{
		"a\x00b\x00":              {"a", "b"},
		"a\x00cut of":             {"a", "cut of"},
		"a\x00\x00\x00":           {"a", "", ""},
		"\x00":                    {""},
		"a\x00\xff\xfe\x00\xc3":   {"a", "\uFFFD", "\uFFFD"},
		"ok\xffok\x00\u00e4\x00x": {"ok\uFFFDok", "\u00e4", "x"},
	} {
		assert.Equal(t, want, splitArguments([]byte(raw)), "%q", raw)
	}
}

func TestArgumentsLeaveTheRecordAsItIs(t *testing.T) {
	raw := []byte("curl\x00-u\x00me:hunter2\x00https://u:p@h/\x00")
	before := slices.Clone(raw)

	arguments := newIndex(nil).internArguments(raw)

	assert.Equal(t, []string{"curl", "-u", "me:REDACTED", "https://REDACTED:REDACTED@h/"}, arguments)
	assert.Equal(t, before, raw)
}

func TestArgumentsOutliveTheRecord(t *testing.T) {
	raw := []byte("sleep\x001\x00")
	arguments := newIndex(nil).internArguments(raw)
	clear(raw)
	assert.Equal(t, []string{"sleep", "1"}, arguments)
}

func TestRedactMessage(t *testing.T) {
	for given, want := range map[string]string{
		"": "",
		"failed to load service account token: open /run/token: no such file":  "failed to load service account token: open /run/token: no such file",
		"secret: not found, password: empty, see https://h:443/token: refused": "secret: not found, password: empty, see https://h:443/token: refused",
		"a basic network":                                "a basic network",
		"key=value, no=secret":                           "key=value, no=secret",
		"login with password=hunter2 failed: refused":    "login with password=REDACTED failed: refused",
		`args="--token=abc" DB_PASSWORD="a b" user=x`:    `args="--token=REDACTED DB_PASSWORD=REDACTED user=x`,
		"token='unclosed end":                            "token=REDACTED end",
		"token= is empty, and so is password=":           "token= is empty, and so is password=",
		`{"api_key"=abc}`:                                `{"api_key"=REDACTED`,
		"Get https://u:p@h/x?token=abc&y=1: 403":         "Get https://REDACTED:REDACTED@h/x?token=REDACTED 403",
		"post http://a:b@h: no route, http://c:d@i: eof": "post http://REDACTED:REDACTED@h: no route, http://REDACTED:REDACTED@i: eof",
		`Authorization: "Bearer abc.def" refused`:        `Authorization: "Bearer REDACTED" refused`,
		"authorization: basic dXNlcjpw refused":          "authorization: basic REDACTED refused",
		"sent Basic dXNlcjpw, bearer abc":                "sent Basic REDACTED bearer REDACTED",
	} {
		assert.Equal(t, want, RedactMessage(given, false), given)
	}
	for given, want := range map[string]string{
		"dial http://h:80 failed: no route": "dial http://h:80 failed: no route",
		"dial http://user:hunt":             "dial http://REDACTED",
		"dial http://user":                  "dial http://user",
	} {
		assert.Equal(t, want, RedactMessage(given, true), given)
	}
}

func FuzzRedactMessage(f *testing.F) {
	f.Add("token: x ", " of Basic u")
	f.Add(`a="`, "=")
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "hunter2"
		if strings.Contains(before+after, secret) {
			return
		}
		for _, middle := range []string{" token=" + secret + " ", " Bearer " + secret + " ", " https://u:" + secret + "@h/ "} {
			assert.NotContains(t, RedactMessage(before+middle+after, true), secret)
		}
	})
}

func FuzzRedact(f *testing.F) {
	for _, seed := range []string{
		"curl\x00-u\x00me:hunter2\x00", "a\x00--token", "a\x00http://a:b@h1,http://c:d@h2", "://\x00://@\x00:///",
		"\xff\x00=\x00:\x00-u=\x00-u:", "sh\x00-c\x00curl -u ", "sh\x00-c\x00--token ",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		arguments := splitArguments(raw)
		count := len(arguments)
		hidden := Redact(slices.Clone(arguments))
		assert.Len(t, hidden, count)
		for i, argument := range hidden {
			if !utf8.ValidString(argument) {
				t.Errorf("%q is not UTF-8", argument)
			}
			// all that it can do is to put the one word in
			if argument != arguments[i] && !strings.Contains(argument, redacted) {
				t.Errorf("%q became %q", arguments[i], argument)
			}
		}
	})
}

// FuzzRedactHides puts a secret where one is expected, next to anything.
func FuzzRedactHides(f *testing.F) {
	const secret = "5ecre7"
	f.Add("tool", "x")
	f.Add("a=b", "-u")
	f.Add("--token", "--password")
	f.Add("-U", "0")
	f.Fuzz(func(t *testing.T, before, after string) {
		for _, line := range [][]string{
			{before, "--password=" + secret, after},
			{before, "PGPASSWORD=" + secret, after},
			{before, "--db-token", secret, after},
			{before, "-u", "me:" + secret, after},
			{before, "https://me:" + secret + "@host/", after},
			{before, "-H", "Authorization: Bearer " + secret, after},
		} {
			given := strings.Join(line, " ")
			if got := strings.Join(Redact(line), " "); strings.Contains(got, secret) && !strings.Contains(before+after, secret) {
				t.Errorf("%q became %q", given, got)
			}
		}
	})
}

func TestACommandLineThatWasCutOff(t *testing.T) {
	for given, want := range map[string][]string{
		"psql\x00postgres://user:secretpasswo": {"psql", "postgres://REDACTED"},
		"curl\x00-u\x00me:hun":                 {"curl", "-u", "me:REDACTED"},
		"curl\x00https://host/pa":              {"curl", "https://host/pa"},
		"psql\x00postgres://u:p@h/d":           {"psql", "postgres://REDACTED:REDACTED@h/d"},
		"psql\x00http://host:80/\x00":          {"psql", "http://host:80/"},
	} {
		assert.Equal(t, want, newIndex(nil).internArguments([]byte(given)))
	}
}
