// Command gotemplate executes Go templates, so that tests can compare with what Go itself makes of them: each line
// of standard input is {"template": …, "variables": {…}}, each line of standard output {"text": …} or {"error": …}.
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type request struct {
	Template  string                     `json:"template"`
	Variables map[string]json.RawMessage `json:"variables"`
}

type result struct {
	Text  string `json:"text"`
	Error string `json:"error,omitempty"`
}

// value reads a variable with the type that a Go program would give it.
func value(raw json.RawMessage) (any, error) {
	var number int
	if json.Unmarshal(raw, &number) == nil {
		return number, nil
	}
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		return list, nil
	}
	var other any
	return other, json.Unmarshal(raw, &other)
}

func execute(asked request) (string, error) {
	variables := map[string]any{}
	for name, raw := range asked.Variables {
		read, err := value(raw)
		if err != nil {
			return "", err
		}
		variables[name] = read
	}
	parsed, err := template.New("").Option("missingkey=error").Parse(asked.Template)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	err = parsed.Execute(&text, variables)
	return text.String(), err
}

func main() {
	requests, results := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var asked request
		if requests.Decode(&asked) != nil {
			return
		}
		text, err := execute(asked)
		made := result{Text: text}
		if err != nil {
			made = result{Error: err.Error()}
		}
		if results.Encode(made) != nil {
			return
		}
	}
}
