// Checks what Warmpath gives Prometheus as promtool does, by the same packages:
//
//	check metrics < TEXT    parses a scrape and lints names, types and help texts
//	check rules FILE        parses alert rules, expressions and templates included
//	check expressions < TEXT  parses each line as an expression
//
// One line on standard output for each problem; none when all is well.
package main

import (
	"bufio"
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "metrics":
		problems, err := promlint.New(os.Stdin).Lint()
		if err != nil {
			fmt.Println(err)
		}
		for _, problem := range problems {
			fmt.Printf("%s: %s\n", problem.Metric, problem.Text)
		}
	case len(os.Args) == 3 && os.Args[1] == "rules":
		_, errs := rulefmt.ParseFile(os.Args[2], false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
		for _, err := range errs {
			fmt.Println(err)
		}
	case len(os.Args) == 2 && os.Args[1] == "expressions":
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			if _, err := parser.NewParser(parser.Options{}).ParseExpr(lines.Text()); err != nil {
				fmt.Printf("%s: %s\n", lines.Text(), err)
			}
		}
	default:
		fmt.Fprintln(os.Stderr, "usage: check metrics | rules FILE | expressions")
		os.Exit(2)
	}
}
