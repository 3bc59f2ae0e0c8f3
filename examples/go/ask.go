// One question that travels in a batch, asked with nothing but the standard library.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	answer, err := ask("Why is the sky blue? One sentence.")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer)
}

func ask(question string) (string, error) {
	baseURL := cmp.Or(os.Getenv("OPENAI_BASE_URL"), "http://127.0.0.1:3030/v1") // the one changed line
	body, err := json.Marshal(map[string]any{
		"model":    cmp.Or(os.Getenv("OPENAI_MODEL"), "gpt-6-luna"),
		"messages": []map[string]string{{"role": "user", "content": question}},
	})
	if err != nil {
		return "", err
	}
	request, err := http.NewRequest(http.MethodPost, baseURL+"/chat/completions", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("OPENAI_API_KEY"))
	request.Header.Set("Content-Type", "application/json")

	response, err := http.DefaultClient.Do(request) // no timeout: held open until the batch is done
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		return "", fmt.Errorf("%s: %s", response.Status, text)
	}
	var reply struct {
		Choices []struct {
			Message struct{ Content string }
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&reply); err != nil {
		return "", err
	}
	if len(reply.Choices) == 0 {
		return "", fmt.Errorf("no choices in the reply")
	}
	return reply.Choices[0].Message.Content, nil
}
