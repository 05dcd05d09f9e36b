package main

import (
	"encoding/json"
	"fmt"
	"io"
)

// jsonText is what a command has found, for programs: what --json prints.
func jsonText(found any) (string, error) {
	text, err := json.MarshalIndent(found, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write it as JSON: %w", err)
	}
	return string(text) + "\n", nil
}

// printResult prints what a command has measured, for people, or for programs if they want it.
func printResult(w io.Writer, r fmt.Stringer, asJSON bool) error {
	text := r.String()
	if asJSON {
		var err error
		if text, err = jsonText(r); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, text)
	return err
}
